/**
 * Fetching from the Hub, against a local server that answers as the Hub's published API does: model info, paged file lists, redirects, ranges.
 */
import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '@signpost/engine';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GOLDEN } from './fixtures.ts';
import { fetchRepository } from './hub.ts';
import { openSource } from './open.ts';

const SHA = '0123456789abcdef0123456789abcdef01234567';
const NAME = 'someone/tiny';
const WEIGHTS = 'model.safetensors';
const PAGE = 2;

/** A Hub with one repository. */
class FakeHub {
  readonly files = new Map<string, Buffer>();
  /** Paths of downloads, with the range asked for. */
  readonly downloads: string[] = [];
  token: string | undefined;
  /** Cuts the connection of the next download of weights after so many bytes. */
  cutAfter: number | undefined;
  /** What weights are replaced by on their way. */
  damaged: Buffer | undefined;
  readonly server: Server = createServer((request, response) => this.#answer(request, response));

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '', this.url);
    const json = (status: number, body: unknown, headers: Record<string, string> = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`)
      return void json(401, { error: 'Invalid credentials' });
    if (pathname === `/api/models/${NAME}/revision/v1` || pathname === `/api/models/${NAME}/revision/main`)
      return void json(200, { _id: '1', id: NAME, sha: SHA, private: false });
    if (pathname === `/api/models/${NAME}/tree/${SHA}`) {
      const at = Number(searchParams.get('cursor') ?? 0);
      const entries = [...this.files].map(([path, data]) => this.#entry(path, data));
      const next = `<${this.url}${pathname}?cursor=${at + PAGE}>; rel="next"`;
      return void json(200, entries.slice(at, at + PAGE), at + PAGE < entries.length ? { link: next } : {});
    }
    const resolve = `/${NAME}/resolve/${SHA}/`;
    if (pathname.startsWith(resolve)) {
      const path = pathname.slice(resolve.length);
      // Large files are served from elsewhere.
      if (path.endsWith('.safetensors')) return void response.writeHead(302, { location: `/cdn/${path}` }).end();
      return void this.#send(path, request, response);
    }
    if (pathname.startsWith('/cdn/')) return void this.#send(pathname.slice('/cdn/'.length), request, response);
    json(404, { error: 'Repository not found' });
  }

  #entry(path: string, data: Buffer): object {
    const git = createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');
    if (!path.endsWith('.safetensors')) return { type: 'file', path, size: data.length, oid: git };
    const oid = createHash('sha256').update(data).digest('hex');
    return { type: 'file', path, size: data.length, oid: SHA, lfs: { oid, size: data.length, pointerSize: 130 } };
  }

  #send(path: string, request: IncomingMessage, response: ServerResponse): void {
    const weights = path.endsWith('.safetensors');
    const data = (weights ? this.damaged : undefined) ?? this.files.get(path) ?? Buffer.alloc(0);
    const { from = '0', to } = /^bytes=(?<from>\d+)-(?<to>\d+)$/.exec(request.headers.range ?? '')?.groups ?? {};
    const part = data.subarray(Number(from), to === undefined ? data.length : Number(to) + 1);
    const probe = request.headers.range === 'bytes=0-0';
    if (!probe) this.downloads.push(to === undefined ? path : `${path} from ${from}`);
    response.writeHead(to === undefined ? 200 : 206, {
      etag: '"x"',
      'content-length': part.length,
      'content-range': `bytes ${from}-${Number(from) + part.length - 1}/${data.length}`,
    });
    if (probe || !weights || this.cutAfter === undefined) return void response.end(part);
    response.write(part.subarray(0, this.cutAfter), () => response.destroy());
    this.cutAfter = undefined;
  }
}

let hub: FakeHub;
let cache: string;
beforeEach(async () => {
  hub = new FakeHub();
  cache = await mkdtemp(join(tmpdir(), 'signpost-hub-'));
  await new Promise<void>((resolve) => void hub.server.listen(0, '127.0.0.1', resolve));
  vi.stubEnv('HF_ENDPOINT', `${hub.url}/`);
  vi.stubEnv('HF_HUB_CACHE', cache);
  vi.stubEnv('HF_TOKEN', '');
  for (const file of ['config.json', WEIGHTS]) hub.files.set(file, await readFile(join(GOLDEN, 'merge/a', file)));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  hub.server.closeAllConnections();
  hub.server.close();
  await rm(cache, { recursive: true });
});

const fetched = (location: string, signal = new AbortController().signal) =>
  fetchRepository(location, { onProgress: () => {}, signal });
const blobs = () => readdir(join(cache, 'models--someone--tiny/blobs'));

describe('a repository on the Hub', () => {
  it('opens as the checkpoint it holds', async () => {
    const [local, remote] = [await openCheckpoint(join(GOLDEN, 'merge/a')), await openSource(`hf://${NAME}@v1`)];
    expect(await remote.digest()).toBe(await local.digest());
  });

  it('is fetched once, into the folders of Hugging Face’s own tools', async () => {
    const folder = await fetched(`hf://${NAME}@v1`);
    expect(folder).toBe(join(cache, 'models--someone--tiny/snapshots', SHA));
    expect(await readFile(join(cache, 'models--someone--tiny/refs/v1'), 'utf8')).toBe(SHA);
    expect(hub.downloads).toEqual(['config.json', WEIGHTS]);
    await fetched(`hf://${NAME}`);
    expect(hub.downloads).toHaveLength(2);
  });

  it('gives only what a model is made of', async () => {
    const extra = ['README.md', 'pytorch_model.bin', 'training_args.bin', 'consolidated.safetensors', 'modeling.py'];
    for (const path of extra) hub.files.set(path, Buffer.from(path));
    hub.files.set('tokenizer.json', Buffer.from('{}'));
    const folder = await fetched(`hf://${NAME}`);
    expect((await readdir(folder)).sort()).toEqual(['config.json', WEIGHTS, 'tokenizer.json']);
  });

  it('reports bytes up to the whole', async () => {
    const seen: [number, number][] = [];
    const signal = new AbortController().signal;
    await fetchRepository(`hf://${NAME}`, { onProgress: (done, total) => seen.push([done, total]), signal });
    const total = [...hub.files.values()].reduce((sum, { length }) => sum + length, 0);
    expect(seen.at(-1)).toEqual([total, total]);
    expect(seen.map(([done]) => done)).toEqual(seen.map(([done]) => done).toSorted((a, b) => a - b));
  });

  it('goes on where a broken download stopped', async () => {
    hub.cutAfter = 30_000;
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/hf:\/\/someone\/tiny can't be fetched: .*run again/);
    expect((await blobs()).filter((file) => file.endsWith('.incomplete'))).toHaveLength(1);
    await fetched(`hf://${NAME}`);
    expect(hub.downloads.at(-1)).toMatch(/^model\.safetensors from [1-9]\d*$/);
    expect((await blobs()).filter((file) => file.endsWith('.incomplete'))).toHaveLength(0);
  });

  it('that arrives damaged is refused and fetched anew, and so is one whose beginning was damaged here', async () => {
    hub.damaged = Buffer.from(hub.files.get(WEIGHTS) ?? '').fill(7, 5_000, 5_001);
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/model\.safetensors arrived damaged/);
    hub.damaged = undefined;
    hub.cutAfter = 30_000;
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow();
    const [incomplete = ''] = (await blobs()).filter((file) => file.endsWith('.incomplete'));
    appendFileSync(join(cache, 'models--someone--tiny/blobs', incomplete), 'x');
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/arrived damaged/);
    await fetched(`hf://${NAME}`);
  });

  it('stops when it is told to, keeping what it has', async () => {
    const controller = new AbortController();
    const stopped = fetchRepository(`hf://${NAME}`, {
      onProgress: (done) => done > 5_000 && controller.abort(new Error('enough')),
      signal: controller.signal,
    });
    await expect(stopped).rejects.toThrow('enough');
    await fetched(`hf://${NAME}`);
  });

  it('is read with HF_TOKEN where it is private', async () => {
    hub.token = 'hf_secret';
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/access denied \(401\); set HF_TOKEN/);
    vi.stubEnv('HF_TOKEN', 'hf_secret');
    await fetched(`hf://${NAME}`);
  });

  it('is refused when its weights are pickle, or when it has none', async () => {
    hub.files.delete(WEIGHTS);
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/holds no weights in safetensors/);
    hub.files.set('pytorch_model.bin', Buffer.from('x'));
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/pickle \(pytorch_model\.bin\)/);
    expect(hub.downloads).toEqual([]);
  });

  it('is refused when it isn’t there, can’t be reached, or its name is none', async () => {
    await expect(fetched('hf://someone/else')).rejects.toThrow(/no such repository or revision/);
    await expect(fetched(`hf://${NAME}@v2`)).rejects.toThrow(/no such repository or revision/);
    await expect(fetched('hf://a/b/c')).rejects.toThrow(/is no repository; expected hf:/);
    await expect(fetched(`hf://${NAME}@../x`)).rejects.toThrow(/is no repository; expected hf:/);
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    await expect(fetched(`hf://${NAME}`)).rejects.toThrow(/can't be fetched/);
  });

  it('may hold an adapter', async () => {
    for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
      hub.files.set(file, await readFile(join(GOLDEN, 'peft/lora', file)));
    for (const file of ['config.json', WEIGHTS]) hub.files.delete(file);
    const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
    const [remote, local] = [
      await openSource(`hf://${NAME}`, { base }),
      await openSource(join(GOLDEN, 'peft/lora'), { base }),
    ];
    expect(await remote.digest()).toBe(await local.digest());
  });
});

it('a cached file that was removed is fetched again', async () => {
  const folder = await fetched(`hf://${NAME}`);
  const [config = ''] = (await blobs()).filter((file) => file.length === 40);
  await rm(join(cache, 'models--someone--tiny/blobs', config));
  await fetched(`hf://${NAME}`);
  expect(await readFile(join(folder, 'config.json'))).toEqual(hub.files.get('config.json'));
});
