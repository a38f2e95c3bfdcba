import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AllFailed, type Contender, race, Superseded } from './race.ts';

const never = new AbortController().signal;

interface Plan {
  readonly ms: number;
  readonly answers: boolean;
  readonly hedgeAfterMs: number | undefined;
}

function contest(plans: readonly Plan[]) {
  const log: { name: string; at: number; ended?: string }[] = [];
  const start = performance.now();
  const contenders = plans.map(
    ({ ms, answers, hedgeAfterMs }, i): Contender<string> => ({
      name: String(i),
      hedgeAfterMs,
      run: ({ signal }) =>
        new Promise((resolve, reject) => {
          const entry: (typeof log)[number] = { name: String(i), at: performance.now() - start };
          log.push(entry);
          const timer = setTimeout(() => {
            entry.ended = answers ? 'answered' : 'failed';
            if (answers) resolve(String(i));
            else reject(new Error(`no ${i}`));
          }, ms);
          signal.addEventListener('abort', () => {
            clearTimeout(timer);
            entry.ended = signal.reason instanceof Superseded ? 'superseded' : 'aborted';
            reject(signal.reason);
          });
        }),
    }),
  );
  return { contenders, log };
}

describe('a race of regions', () => {
  it('goes to who answers, has two under way at most, leaves none running, and fails only when all have', async () => {
    const plan = fc.record({
      ms: fc.integer({ min: 0, max: 20 }),
      answers: fc.boolean(),
      hedgeAfterMs: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(plan, { maxLength: 4 }), async (plans) => {
        const { contenders, log } = contest(plans);
        let open = 0;
        const counted = contenders.map((contender) => ({
          ...contender,
          run: async (own: AbortController) => {
            expect(++open).toBeLessThanOrEqual(2);
            return contender.run(own).finally(() => open--);
          },
        }));
        const outcome = await race(counted, never).catch((error: unknown) => error);
        await new Promise((resolve) => setTimeout(resolve));
        expect(open).toBe(0);
        if (outcome instanceof AllFailed) {
          expect(plans.some(({ answers }) => answers)).toBe(false);
          expect(log).toHaveLength(plans.length);
        } else {
          expect(log.find(({ name }) => name === outcome)?.ended).toBe('answered');
          for (const { ended } of log) expect(['answered', 'failed', 'superseded']).toContain(ended);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('asks the next one beside one that takes too long, and cancels the loser', async () => {
    const { contenders, log } = contest([
      { ms: 5_000, answers: true, hedgeAfterMs: 20 },
      { ms: 10, answers: true, hedgeAfterMs: undefined },
    ]);
    expect(await race(contenders, never)).toBe('1');
    expect(log.map(({ ended }) => ended)).toEqual(['superseded', 'answered']);
    expect(log[1]?.at).toBeGreaterThanOrEqual(19);
  });

  it('says what became of each, and ends with who no longer waits', async () => {
    const { contenders } = contest([1, 2].map(() => ({ ms: 1, answers: false, hedgeAfterMs: undefined })));
    await expect(race(contenders, never)).rejects.toThrow('0: no 0; 1: no 1');
    const gone = new AbortController();
    const { contenders: slow, log } = contest([{ ms: 5_000, answers: true, hedgeAfterMs: undefined }]);
    const racing = race(slow, gone.signal);
    gone.abort(new Error('left'));
    await expect(racing).rejects.toThrow('left');
    expect(log[0]?.ended).toBe('aborted');
  });
});
