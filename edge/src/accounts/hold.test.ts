import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Hold } from './hold.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** How many of what a request was asked to wait for it still waits for. */
function create() {
  let held = 0;
  const hold = new Hold((promise) => {
    held++;
    void promise.then(() => held--);
  });
  const heldAfter = async (ms: number) => {
    await vi.advanceTimersByTimeAsync(ms);
    return held;
  };
  return { hold, heldAfter };
}

it('holds for as long as it takes until the response begins', async () => {
  const { hold, heldAfter } = create();
  hold.passes();
  expect(await heldAfter(60_000)).toBe(1);
  hold.begins();
  expect(await heldAfter(200)).toBe(1);
});

it('lets go in a silence, and holds again when something passes', async () => {
  const { hold, heldAfter } = create();
  hold.begins();
  for (let i = 0; i < 20; i++) {
    expect(await heldAfter(200)).toBe(1);
    hold.passes();
  }
  expect(await heldAfter(500)).toBe(0);
  hold.passes();
  expect(await heldAfter(200)).toBe(1);
});

it('waits at the end for what is still to be done, held or not, and for nothing after it', async () => {
  for (const silenceMs of [0, 1_000]) {
    const { hold, heldAfter } = create();
    hold.begins();
    await heldAfter(silenceMs);
    let done = () => {};
    hold.ends(
      new Promise<void>((resolve) => {
        done = resolve;
      }),
    );
    expect(await heldAfter(5_000)).toBe(1);
    hold.passes();
    done();
    expect(await heldAfter(0)).toBe(0);
  }
});
