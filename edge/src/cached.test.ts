import { expect, it } from 'vitest';
import { Cached, type CachedOptions } from './cached.ts';

function cached(read: () => Promise<string>, more: Pick<CachedOptions<string>, 'forgetAfterMs'> = {}) {
  const clock = { now: 0 };
  const pending: Promise<unknown>[] = [];
  const logged: string[] = [];
  const view = new Cached({
    name: 'fleet',
    maxAgeMs: 1_000,
    read,
    now: () => clock.now,
    log: (event) => logged.push(event),
    ...more,
  });
  const waitUntil = (promise: Promise<unknown>) => pending.push(promise);
  return {
    clock,
    pending,
    logged,
    look: () => view.current(waitUntil),
    lookAgain: () => view.recent(waitUntil),
    know: () => view.known(waitUntil),
  };
}

it('is read beside the request that finds it old, once in its age', async () => {
  let reads = 0;
  const { clock, pending, look } = cached(async () => String(++reads));
  expect([look(), look()]).toEqual([undefined, undefined]);
  await Promise.all(pending);
  clock.now = 999;
  expect(look()).toBe('1');
  clock.now = 1_000;
  expect(look()).toBe('1');
  await Promise.all(pending);
  expect([look(), reads]).toEqual(['2', 2]);
});

it('stays as it was when it can not be read, and a read that is lost does not stop the next', async () => {
  const answers: (() => Promise<string>)[] = [
    async () => 'a',
    async () => {
      throw new Error('overloaded');
    },
    () => new Promise(() => undefined),
    async () => 'b',
  ];
  const { clock, pending, logged, look } = cached(() => (answers.shift() ?? (async () => 'c'))());
  look();
  await Promise.all(pending);
  clock.now = 1_000;
  look();
  await Promise.all(pending);
  expect([look(), logged]).toEqual(['a', ['fleet_unreadable']]);
  clock.now = 5_999;
  look();
  expect(answers).toHaveLength(1);
  clock.now = 7_000;
  look();
  await pending.at(-1);
  expect(look()).toBe('b');
});

it('that is forgotten is not known to who looks, and read first by who must know', async () => {
  const answers = ['a', 'b', 'c', 'd'];
  const { clock, pending, look, know } = cached(async () => answers.shift() ?? '', { forgetAfterMs: 10_000 });
  look();
  await Promise.all(pending);
  clock.now = 10_000;
  expect(look()).toBe('a');
  await Promise.all(pending);
  clock.now = 20_001;
  expect(look()).toBeUndefined();
  await Promise.all(pending);
  expect(look()).toBe('c');
  clock.now = 40_000;
  expect(await know()).toBe('d');
});

it('that is forgotten and can not be read is not known to who has waited for it', async () => {
  const answers = [async () => 'a', () => Promise.reject(new Error('overloaded'))];
  const { clock, lookAgain } = cached(() => (answers.shift() ?? (async () => 'b'))(), { forgetAfterMs: 10_000 });
  expect(await lookAgain()).toBe('a');
  clock.now = 100_000;
  expect(await lookAgain()).toBeUndefined();
});

it('is waited for where nothing is known or only what is old, and not again while it can not be read', async () => {
  const answers = [async () => 'a', async () => 'b', () => Promise.reject(new Error('overloaded'))];
  const { clock, lookAgain, pending } = cached(() => (answers.shift() ?? (() => new Promise(() => undefined)))());
  expect(await lookAgain()).toBe('a');
  clock.now = 30_000;
  expect(await lookAgain()).toBe('a');
  await Promise.all(pending);
  clock.now = 90_000;
  expect(await lookAgain()).toBe('b');
  expect(answers).toHaveLength(0);
  // What takes too long is not waited for, by the first nor by those after it.
  clock.now = 200_000;
  expect(await Promise.all([lookAgain(), lookAgain()])).toEqual(['b', 'b']);
});

it('is waited for by who must know, once, and fails where it can’t be read at all', async () => {
  const answers = [new Error('down'), 'a', new Error('down'), 'b'];
  const { clock, pending, know } = cached(async () => {
    const answer = answers.shift();
    if (typeof answer === 'string') return answer;
    throw answer;
  });
  await expect(know()).rejects.toThrow('down');
  expect(await know()).toBe('a');
  for (const [at, known] of [
    [1_000, 'a'],
    [1_001, 'a'],
    [1_002, 'b'],
  ] as const) {
    clock.now = at;
    expect(await know()).toBe(known);
    await Promise.all(pending);
  }
});
