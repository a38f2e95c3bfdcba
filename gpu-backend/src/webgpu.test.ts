/**
 * The container on a GPU: the answers of the cpu, and what becomes of it when the GPU is lost. Where this machine has none, SwiftShader stands in.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
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

  it('fails what is in flight and its liveness when the GPU is lost', async () => {
    const sign = join(dir, 'lose');
    const preload = join(dir, 'preload.mjs');
    await writeFile(preload, losesGpuAt(sign));
    const flags = ['--port', '0', '--device', 'webgpu', '--allow-software-gpu', '--slots', '1', '--kv-tokens', '1024'];
    const { child, lines, exit } = run(flags, { NODE_OPTIONS: `--import ${preload}` });
    const url = await readyAt(lines);
    const body = JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 900, ignore_eos: true });
    const pending = fetch(`${url}/v1/completions`, { method: 'POST', body });
    const running = async () => ((await (await fetch(`${url}/heartbeat`)).json()) as { running: number }).running;
    await expect.poll(running, { interval: 20, timeout: 30_000 }).toBe(1);
    const liveness = async () => (await fetch(`${url}/health/live`)).status;
    expect(await liveness()).toBe(200);
    await writeFile(sign, '');
    expect(await (await pending).json()).toMatchObject({ error: { code: 'engine_gone' } });
    await expect.poll(liveness, { interval: 20, timeout: 10_000 }).toBe(500);
    child.kill('SIGTERM');
    expect(await exit).toMatchObject({ code: 0, signal: null });
  }, 120_000);
});

/** A module that destroys each GPU that is opened once a file is there: what a driver's reset looks like from inside. */
function losesGpuAt(sign: string): string {
  return `
    import { existsSync } from 'node:fs';
    import { isMainThread } from 'node:worker_threads';
    if (!isMainThread) {
      const { globals } = await import(${JSON.stringify(dawnUrl)});
      const { requestDevice } = globals.GPUAdapter.prototype;
      globals.GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await requestDevice.apply(this, args);
        setInterval(() => existsSync(${JSON.stringify(sign)}) && device.destroy(), 20).unref();
        return device;
      };
    }
  `;
}

function run(flags: readonly string[], env: Record<string, string> = {}): ContainerProcess {
  const started = startProcess(['--base', join(DEMO, 'base'), '--store', store, '--region', 'test', ...flags], env);
  children.push(started.child);
  return started;
}
