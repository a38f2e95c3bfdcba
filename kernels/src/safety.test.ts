/**
 * What JavaScript can do wrong throws; it never reads beyond a buffer, and never ends the process.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { clearedMemory, largeMemory, NATIVE_EPILOGUE, NativeDevice, sumWords } from './index.ts';
import { noise } from './testing.ts';

const ADDON = createRequire(import.meta.url).resolve('../build/Release/kernels.node');
const KV = Int32Array.of(1, 8, 4, 1, 32); // layers, blocks, block tokens, kv heads, head size

/** `rows` rows of one sequence on the plain base. */
function begin(device: NativeDevice, rows: number, blocks: Int32Array, logitRows = new Int32Array(0)): void {
  const positions = Int32Array.from({ length: rows }, (_, i) => i);
  const none = new Int32Array(rows + 1);
  const starts = Int32Array.of(0, rows);
  const weights = new Float32Array(0);
  device.begin(none.slice(1), positions, starts, blocks, blocks.length, none, none.slice(0, 0), weights, logitRows);
}

function ones(out: number, inDim: number): Uint8Array {
  return new Uint8Array(new Float32Array(out * inDim).fill(1).buffer);
}

async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new Error('node has no collector to call');
  for (let round = 0; round < 3; round++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a native device', () => {
  it('keeps the arrays it was given until they are replaced', async () => {
    const device = new NativeDevice(Int32Array.of(512, 4096), 1, KV);
    device.loadParam(0, 2, ones(512, 4096), 0);
    device.addPlane(0, 0, new Uint32Array(512 * 128).fill(0xffffffff), new Float32Array(512).fill(2), undefined);
    await collectGarbage();
    // What was freed would be handed out again here.
    const others = Array.from({ length: 4 }, () => new Uint8Array(512 * 4096 * 4).fill(0x55));
    const y = new Float32Array(512);
    const [zero, one] = [Int32Array.of(0), Int32Array.of(0, 1)];
    device.begin(zero, zero, one, zero, 1, one, zero, Float32Array.of(1), zero);
    device.linears(new Float32Array(4096).fill(1), 4096, NATIVE_EPILOGUE.none, undefined, 0, y, 512, 0, -1);
    expect(others.length).toBe(4);
    expect([...y]).toEqual(new Array(512).fill(3 * 4096));
  });

  it('keeps the step before when it refuses a batch', () => {
    const device = new NativeDevice(Int32Array.of(4, 32), 0, KV);
    device.loadParam(0, 2, ones(4, 32), 0);
    begin(device, 2, Int32Array.of(0));
    // A million sequences, the last with a block that does not exist.
    const starts = new Int32Array(1_000_001);
    starts[1_000_000] = 1;
    const table = new Int32Array(1_000_000);
    table[999_999] = 99;
    const one = new Int32Array(1);
    const none = new Int32Array(0);
    expect(() => device.begin(one, one, starts, table, 1, new Int32Array(2), none, new Float32Array(0), none)).toThrow(
      /block 99 does not exist/,
    );
    device.storeKv(0, new Float32Array(64), new Float32Array(64));
    const y = new Float32Array(64);
    device.linears(new Float32Array(64).fill(1), 32, NATIVE_EPILOGUE.none, undefined, 0, y, 4, 0, -1);
    expect([...y.subarray(0, 4), ...y.subarray(32, 36)]).toEqual(new Array(8).fill(32));
  });

  it('refuses to gather from fewer rows than the batch has', () => {
    const device = new NativeDevice(Int32Array.of(4, 32), 0, KV);
    begin(device, 20, Int32Array.of(0, 1, 2, 3, 4), Int32Array.of(19));
    device.gather(new Float32Array(32), new Float32Array(20 * 32), 32);
    expect(() => device.gather(new Float32Array(32), new Float32Array(32), 32)).toThrow(
      /x has room for 1 rows, the batch has 20/,
    );
  });

  it('refuses a cache that no machine holds, also when its size leaves 64 bits', () => {
    const create = (...kv: number[]) => new NativeDevice(Int32Array.of(4, 32), 0, Int32Array.from(kv));
    expect(() => create(1000, 1000, 1000, 1000, 32)).toThrow(/GiB is too large/);
    expect(() => create(2 ** 16, 2 ** 16, 2 ** 16, 2 ** 16, 2)).toThrow(/GiB is too large/);
  });

  it('refuses epilogues of other outputs than there are', () => {
    const device = new NativeDevice(Int32Array.of(4, 32), 0, KV);
    device.loadParam(0, 2, ones(4, 32), 0);
    begin(device, 1, Int32Array.of(0));
    const x = new Float32Array(32);
    const run = (epilogue: number, target: Float32Array | undefined, cols: number, layers = 1) =>
      device.linears(x, 32, epilogue, target, cols, ...new Array(layers).fill([new Float32Array(32), 4, 0, -1]).flat());
    const { add, swiglu } = NATIVE_EPILOGUE;
    expect(() => run(add, new Float32Array(32), 5)).toThrow(/don't fit the epilogue's target/);
    expect(() => run(add, new Float32Array(16), 4)).toThrow(/room for 0 rows/);
    expect(() => run(add, undefined, 4)).toThrow(/target/);
    expect(() => run(add, x, 4)).toThrow(/can't change what the layers read/);
    expect(() => run(add, new Float32Array(32), 4, 2)).toThrow(/too few layers for the epilogue, or too many/);
    expect(() => run(swiglu, new Float32Array(32), 4)).toThrow(/too few layers for the epilogue, or too many/);
    expect(() => run(3, new Float32Array(32), 4)).toThrow(/epilogue/);
    device.close();
  });

  it('refuses everything once closed', () => {
    const device = new NativeDevice(Int32Array.of(4, 32), 0, KV);
    device.loadParam(0, 2, ones(4, 32), 0);
    begin(device, 1, Int32Array.of(0));
    device.close();
    expect(() =>
      device.linears(new Float32Array(32), 32, NATIVE_EPILOGUE.none, undefined, 0, new Float32Array(32), 4, 0, -1),
    ).toThrow(/is closed/);
    expect(() => begin(device, 1, Int32Array.of(0))).toThrow(/is closed/);
  });
});

describe('the pool', () => {
  it('serves several Node threads at once, and outlives them', async () => {
    const source = `
      const { NativeDevice, setThreads } = require(${JSON.stringify(ADDON)});
      const device = new NativeDevice(Int32Array.of(256, 256), 0, Int32Array.of(1, 1, 1, 1, 2));
      device.loadParam(0, 2, new Uint8Array(new Float32Array(256 * 256).fill(1).buffer), 0);
      const [zero, one, none] = [Int32Array.of(0), Int32Array.of(0, 1), new Int32Array(0)];
      device.begin(zero, zero, one, zero, 1, new Int32Array(2), none, new Float32Array(0), none);
      const y = new Float32Array(256);
      for (let i = 0; i < 500; i++) {
        if (i % 50 === 0) setThreads(1 + (i / 50) % 5);
        device.linears(new Float32Array(256).fill(1), 256, ${NATIVE_EPILOGUE.none}, undefined, 0, y.fill(0), 256, 0, -1);
        if (!y.every((value) => value === 256)) throw new Error('wrong in round ' + i);
      }`;
    // In a process of its own, where no other thread keeps the addon loaded.
    const main = `
      const { Worker } = require('node:worker_threads');
      const run = () => new Promise((resolve, reject) => new Worker(${JSON.stringify(source)}, { eval: true }).on('error', reject).on('exit', resolve));
      (async () => {
        await Promise.all([run(), run(), run()]);
        const cut = new Worker(${JSON.stringify(`${source}\nsetInterval(() => {}, 1000);`)}, { eval: true });
        await new Promise((resolve) => setTimeout(resolve, 100));
        await cut.terminate();
        await run();
        console.log('done');
      })();`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', main], { encoding: 'utf8', timeout: 60_000 });
    expect({ stdout, stderr, status }).toEqual({ stdout: 'done\n', stderr: '', status: 0 });
  });

  it('adds every word once', () => {
    const words = BigUint64Array.from({ length: 100_003 }, (_, i) => BigInt(i));
    expect(sumWords(new Uint8Array(words.buffer))).toBe((100_003n * 100_002n) / 2n);
    expect(() => sumWords(new Uint8Array(words.buffer, 1, 8))).toThrow(/aligned 64-bit words/);
  });
});

it('no layers of an input are computed by doing nothing', () => {
  const device = new NativeDevice(Int32Array.of(4, 32), 0, KV);
  device.loadParam(0, 2, ones(4, 32), 0);
  begin(device, 1, Int32Array.of(0));
  expect(() => device.linears(new Float32Array(32), 32, NATIVE_EPILOGUE.none, undefined, 0)).not.toThrow();
  device.close();
});

describe('large memory', () => {
  it('is nobody else’s while other memory comes and goes', async () => {
    const seed = Date.now() % 2 ** 31;
    console.log(`seed ${seed}`);
    const next = noise(seed);
    const bytes = () => Math.ceil(2 ** (15 + Math.abs(next()) * 9));
    let held = new Map<number, Uint8Array>();
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 40; i++) {
        const id = round * 40 + i;
        const memory = id % 4 === 0 ? await clearedMemory(bytes()) : largeMemory(bytes());
        held.set(id, new Uint8Array(memory).fill(id));
      }
      held = new Map([...held].filter(() => next() > 0));
      await collectGarbage();
      // A device's memory comes from where theirs does.
      const device = new NativeDevice(Int32Array.of(1024, 1024), 1, KV);
      device.loadParam(0, 2, ones(1024, 1024), 0);
      device.close();
      for (const [id, data] of held) expect(data.every((byte) => byte === id % 256)).toBe(true);
    }
    expect(held.size).toBeGreaterThan(0);
  });

  it('of no size, or more than there is, is refused', () => {
    for (const memory of [largeMemory, clearedMemory]) {
      for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 51]) expect(() => memory(bytes)).toThrow(/whole number from 1/);
      expect(() => memory(2 ** 46)).toThrow(/there is no memory for 70368744177664 bytes/);
    }
  });

  it('that is being cleared is let go of when its thread ends', async () => {
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads'); require(workerData).clearedMemory(2 ** 30); setTimeout(() => {}, 1e6)`,
      { eval: true, workerData: ADDON },
    );
    await once(worker, 'online');
    expect(await worker.terminate()).toBe(1);
  });
});

describe('the environment', () => {
  const run = (env: Record<string, string>, expression: string) =>
    spawnSync(process.execPath, ['-p', `const a = require(${JSON.stringify(ADDON)}); ${expression}`], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });

  it('SIGNPOST_ISA chooses the instruction set, and one that is not there is named', () => {
    expect(run({ SIGNPOST_ISA: 'portable' }, 'a.instructionSets()[0]').stdout).toBe('portable\n');
    expect(run({ SIGNPOST_ISA: 'sse9' }, 'a.instructionSets()').stderr).toMatch(/no instruction set "sse9" here/);
  });

  it('SIGNPOST_THREADS bounds the pool', () => {
    expect(run({ SIGNPOST_THREADS: '3' }, 'a.threads()').stdout).toBe('3\n');
    expect(run({ SIGNPOST_THREADS: 'many' }, 'a.threads()').stderr).toMatch(/SIGNPOST_THREADS is "many"/);
  });
});
