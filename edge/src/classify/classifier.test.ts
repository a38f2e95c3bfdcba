import { describe, expect, it } from 'vitest';
import { Classifier, type LoadedModel } from './classifier.ts';

type Load = () => Promise<LoadedModel>;

const model = (probabilities: Record<string, number>, threshold = 0.5): LoadedModel => ({
  model: { labels: Object.keys(probabilities), threshold, classify: async () => probabilities },
  origin: 'test',
});

/** A classifier with a clock of its own and one load after the other. */
function create(...loads: Load[]) {
  const clock = { now: 1_000_000 };
  const events: string[] = [];
  let next = 0;
  const load: Load = async () => {
    const step = loads[Math.min(next++, loads.length - 1)];
    if (step === undefined) throw new Error('nothing to load');
    return step();
  };
  const classifier = new Classifier({ load, now: () => clock.now, log: (event) => events.push(event) });
  return { classifier, clock, events, loads: () => next };
}

const fails: Load = async () => {
  throw new Error('no such model');
};

describe('a classifier', () => {
  it('is cold until it is started, then names the likeliest label', async () => {
    const { classifier } = create(async () => model({ chat: 0.1, math: 0.7, code: 0.2 }));
    expect(await classifier.classify('3 + 4')).toEqual({ state: 'cold' });
    await classifier.start();
    expect(await classifier.classify('3 + 4')).toMatchObject({
      state: 'ready',
      verdict: { label: 'math', confidence: 0.7, threshold: 0.5 },
    });
    expect(classifier.status).toEqual({ status: 'ready', detail: 'test; started in 0 ms' });
  });

  it('abstains below its threshold, and says what it would have said', async () => {
    const { classifier } = create(async () => model({ chat: 0.4, math: 0.35, code: 0.25 }));
    await classifier.start();
    expect(await classifier.classify('hm')).toMatchObject({ state: 'abstained', verdict: { label: 'chat' } });
  });

  it('skips what has no text', async () => {
    const { classifier } = create(async () => model({ chat: 1 }));
    await classifier.start();
    expect(await classifier.classify('')).toEqual({ state: 'skipped' });
  });

  it('is started once, by however many requests at once', async () => {
    const { classifier, loads } = create(async () => model({ chat: 1 }));
    await Promise.all([classifier.start(), classifier.start(), classifier.start()]);
    await classifier.start();
    expect(loads()).toBe(1);
  });

  it('tries again after a failed start, later each time, and not before', async () => {
    const { classifier, clock, events, loads } = create(fails, fails, async () => model({ chat: 1 }));
    await classifier.start();
    expect(await classifier.classify('x')).toEqual({ state: 'failed' });
    expect(classifier.status).toEqual({ status: 'failed', detail: 'no such model' });
    clock.now += 400;
    await classifier.start();
    expect(loads()).toBe(1);
    clock.now += 1_200;
    await classifier.start();
    expect(loads()).toBe(2);
    clock.now += 900;
    await classifier.start();
    expect(loads()).toBe(2);
    clock.now += 2_200;
    await classifier.start();
    expect(await classifier.classify('x')).toMatchObject({ state: 'ready' });
    expect(events).toEqual(['classifier_failed', 'classifier_failed', 'classifier_ready']);
  });

  it('takes a start for lost that never ended', async () => {
    const { classifier, clock, loads } = create(
      () => new Promise(() => {}),
      async () => model({ chat: 1 }),
    );
    void classifier.start();
    await new Promise((resolve) => setTimeout(resolve, 5));
    clock.now += 29_000;
    await classifier.start();
    expect(loads()).toBe(1);
    clock.now += 2_000;
    await classifier.start();
    expect(await classifier.classify('x')).toMatchObject({ state: 'ready' });
  });

  it('fails a request’s label, not the request, when the model breaks', async () => {
    const broken = model({ chat: 1 });
    let runs = 0;
    const { classifier } = create(async () => ({
      ...broken,
      model: {
        ...broken.model,
        classify: async () => {
          if (runs++ > 0) throw new Error('out of memory');
          return { chat: 1 };
        },
      },
    }));
    await classifier.start();
    expect(await classifier.classify('x')).toEqual({ state: 'failed' });
    expect(classifier.status).toEqual({ status: 'failed', detail: 'out of memory' });
  });
});
