import { createHash } from 'node:crypto';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { TERRAFORM_FOLDER } from '../checks/tree.ts';

interface Handler {
  wakeHandler(options: {
    readonly keySha256: string;
    readonly desiredCount: () => Promise<number>;
    readonly setDesiredCount: (count: number) => Promise<void>;
  }): (event: { readonly headers?: Readonly<Record<string, string>> }) => Promise<{ readonly statusCode: number }>;
}

const { wakeHandler }: Handler = await import(path.join(TERRAFORM_FOLDER, 'modules/region-gpu/wake/handler.mjs'));

const KEY = 'a-key-that-the-edge-has';
let running = 0;
let set: number[] = [];
const wake = wakeHandler({
  keySha256: createHash('sha256').update(KEY).digest('hex'),
  desiredCount: async () => running,
  setDesiredCount: async (count) => {
    set.push(count);
  },
});
beforeEach(() => {
  running = 0;
  set = [];
});

describe('the hook that wakes a region', () => {
  it('has a service that runs nothing run one task', async () => {
    expect(await wake({ headers: { authorization: `Bearer ${KEY}` } })).toMatchObject({ statusCode: 202 });
    expect(set).toEqual([1]);
  });

  it('leaves one that runs as it is', async () => {
    running = 3;
    expect(await wake({ headers: { authorization: `Bearer ${KEY}` } })).toMatchObject({ statusCode: 200 });
    expect(set).toEqual([]);
  });

  it.each([{}, { headers: {} }, { headers: { authorization: 'Bearer another' } }, { headers: { authorization: KEY } }])(
    'answers 401 to %j, and does nothing',
    async (event) => {
      expect(await wake(event)).toMatchObject({ statusCode: 401 });
      expect(set).toEqual([]);
    },
  );

  it("doesn't start without a key's hash", () => {
    const rest = { desiredCount: async () => 0, setDesiredCount: async () => {} };
    expect(() => wakeHandler({ keySha256: '', ...rest })).toThrow('64 hexadecimal digits');
  });
});
