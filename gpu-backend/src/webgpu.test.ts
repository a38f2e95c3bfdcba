/**
 * The container on a GPU: the answers of the cpu, and what becomes of it when the GPU is lost. Where this machine has none, SwiftShader stands in.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '@signpost/engine';
import { dawnUrl, openTestGpu } from '@signpost/engine/testing';
import { pack, publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BackendHandle, startBackend } from './index.ts';
import { type ContainerProcess, readyAt, startProcess } from './testing/container-process.ts';

const DEMO = join(import.meta.dirname, '../../models/demo');

const gpu = await openTestGpu();
const isSoftware = gpu?.identity.isSoftware === true;
gpu?.close();

let dir: string;
let store: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-webgpu-'));
  store = join(dir, 'store');
  const base = await openCheckpoint(join(DEMO, 'base'));
  for (const name of ['math', 'code']) {
    const out = join(dir, `${name}.delta.safetensors`);
    await pack(base, await openCheckpoint(join(DEMO, 'experts', name)), { name, out, scale: 'row', planes: 1 });
    await publish(openStore(store), out);
  }
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

function start(device: 'cpu' | 'webgpu'): Promise<BackendHandle> {
  return startBackend({
    base: join(DEMO, 'base'),
    store,
    region: 'test',
    port: 0,
    device,
    allowSoftwareGpu: true,
    slots: 2,
    kvTokens: 512,
    maxStepTokens: 64,
    logLevel: 'silent',
  });
}

async function answer(url: string, model: string, content: string): Promise<string> {
  const body = { model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 12 };
  const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body) });
  const answered = (await response.json()) as { choices: { message: { content: string } }[] };
  expect(response.status, JSON.stringify(answered)).toBe(200);
  return answered.choices[0]?.message.content ?? '';
}

describe.skipIf(gpu === undefined)('a container on a GPU', () => {
  it('answers as one on the cpu does, several experts at once', async () => {
    const [onGpu, onCpu] = [await start('webgpu'), await start('cpu')];
    const asked = [
      ['math', 'What is 17 plus 25?'],
      ['code', 'Write a function that returns the square of a number.'],
      ['base', 'What is the capital of France?'],
    ] as const;
    const answers = ({ url }: BackendHandle) => Promise.all(asked.map(([model, text]) => answer(url, model, text)));
    const want = await answers(onCpu);
    expect(new Set(want).size).toBe(asked.length);
    expect(await answers(onGpu)).toEqual(want);
    await onGpu.close();
    await onCpu.close();
  }, 120_000);

  it.runIf(isSoftware)('refuses one in software unless that is allowed', async () => {
    const { exit } = run(['--port', '0', '--device', 'webgpu']);
    const { code, stderr } = await exit;
    expect(code).toBe(1);
    expect(stderr).toMatch(/signpost-backend: the only adapter is .* or allow it with --allow-software-gpu\n/);
  });

  describe('of its own process', () => {
    let sign: string;
    let made: string;
    let container: ContainerProcess;
    let url: string;
    const logged: string[] = [];
    beforeAll(async () => {
      sign = join(dir, 'lose');
      made = join(dir, 'made');
      const preload = join(dir, 'preload.mjs');
      await writeFile(preload, watched(made, sign));
      const flags = ['--device', 'webgpu', '--allow-software-gpu', '--slots', '2', '--kv-tokens', '1024'];
      container = run(['--port', '0', ...flags], { NODE_OPTIONS: `--import ${preload}` });
      url = await readyAt(heard(container.lines, logged));
    }, 120_000);

    const makings = async () => (await readFile(made, 'utf8')).trim().split('\n');

    it('compiles all of its kernels before it is ready, and none for any request', async () => {
      const compiling = logged.flatMap((line) =>
        JSON.parse(line).msg === 'compiling kernels' ? JSON.parse(line) : [],
      );
      expect(compiling.length).toBeGreaterThan(1);
      expect(compiling.at(-1)).toMatchObject({ compiled: compiling.at(-1).total });
      const before = await makings();
      expect(before.filter((name) => /Pipeline/.test(name)).length).toBeGreaterThanOrEqual(compiling.at(-1).total);
      await Promise.all(
        REQUESTS.map(async (request) => {
          const body = JSON.stringify({
            prompt: 'Once upon a time there was',
            max_tokens: 5,
            ignore_eos: true,
            ...request,
          });
          const response = await fetch(`${url}/v1/completions`, { method: 'POST', body });
          expect(response.status, await response.text()).toBe(200);
        }),
      );
      const after = await makings();
      expect(after.slice(before.length).filter((name) => /Pipeline|Shader/.test(name))).toEqual([]);
    }, 120_000);

    it('fails what is in flight and its liveness when the GPU is lost', async () => {
      const body = JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 900, ignore_eos: true });
      const pending = fetch(`${url}/v1/completions`, { method: 'POST', body });
      const running = async () => ((await (await fetch(`${url}/heartbeat`)).json()) as { running: number }).running;
      await expect.poll(running, { interval: 20, timeout: 30_000 }).toBe(1);
      const liveness = async () => (await fetch(`${url}/health/live`)).status;
      expect(await liveness()).toBe(200);
      await writeFile(sign, '');
      expect(await (await pending).json()).toMatchObject({ error: { code: 'engine_gone' } });
      await expect.poll(liveness, { interval: 20, timeout: 10_000 }).toBe(500);
      container.child.kill('SIGTERM');
      expect(await container.exit).toMatchObject({ code: 0, signal: null });
    }, 120_000);
  });
});

/** Of all kinds: prompts short and long, experts and the base, each way of choosing, and formats and scores that need logits. */
const REQUESTS: readonly Record<string, unknown>[] = [
  { model: 'base', temperature: 0 },
  { model: 'math', temperature: 1, seed: 1 },
  { model: 'code', top_k: 20, seed: 2 },
  { model: 'math', top_p: 0.8, repetition_penalty: 1.2, seed: 3 },
  { model: 'base', prompt: 'One two three four five. '.repeat(20), frequency_penalty: 0.5, logit_bias: { 5: 2 } },
  { model: 'code', prompt: 'a', logprobs: 3 },
  { model: 'base', prompt: 'a b c', logprobs: 2, echo: true, max_tokens: 2 },
  { model: 'base', guided_choice: ['yes', 'no'], ignore_eos: false },
];

/** The same lines, kept in `list` too. */
async function* heard(lines: ContainerProcess['lines'], list: string[]) {
  for await (const line of lines) {
    list.push(line);
    yield line;
  }
}

/**
 * A module that puts a line into file `made` for each thing that is made on a GPU, and destroys each one once file `sign` is there: what a driver's reset
 * looks like from inside.
 */
function watched(made: string, sign: string): string {
  return `
    import { appendFileSync, existsSync } from 'node:fs';
    import { isMainThread } from 'node:worker_threads';
    if (!isMainThread) {
      const { globals } = await import(${JSON.stringify(dawnUrl)});
      const { requestDevice } = globals.GPUAdapter.prototype;
      globals.GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await requestDevice.apply(this, args);
        setInterval(() => existsSync(${JSON.stringify(sign)}) && device.destroy(), 20).unref();
        return device;
      };
      const { prototype } = globals.GPUDevice;
      for (const name of ['createComputePipeline', 'createComputePipelineAsync', 'createShaderModule']) {
        const create = prototype[name];
        prototype[name] = function (...args) {
          appendFileSync(${JSON.stringify(made)}, name + '\\n');
          return create.apply(this, args);
        };
      }
    }
  `;
}

function run(flags: readonly string[], env: Record<string, string> = {}): ContainerProcess {
  const started = startProcess(['--base', join(DEMO, 'base'), '--store', store, '--region', 'test', ...flags], env);
  children.push(started.child);
  return started;
}
