/**
 * Three real regions behind the real Worker, and what happens to streams when regions die, fall silent, fail, or lie.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Heartbeat } from '@signpost/contracts';
import { prepareDemoStore } from '@signpost/demo';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { heartbeatOf, tellEdge } from '@signpost/edge/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Region } from './region.ts';

const DEMO_BASE = join(import.meta.dirname, '../../models/demo/base');
const STREAMS = 64;
const TOKENS = 64;
const MODELS = ['base', 'chat', 'math', 'code', 'math:1+chat:0.5'];
const NAMES = ['near', 'middle', 'far'] as const;

/** Between the edge and a region: passes everything on, or what a test makes of it. */
class Door {
  readonly #server: Server;
  readonly #region: () => string;
  /** Takes a request in place of the region; false passes it on. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;

  private constructor(server: Server, region: () => string, delayMs: number) {
    this.#server = server;
    this.#region = region;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (this.intercept(request, response)) return;
      // As far away as it says it is: what the edge measures takes geography's place.
      setTimeout(() => {
        const { method, url, headers } = request;
        const passed = httpRequest(`${this.#region()}${url}`, { method, headers }, (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
          answer.once('error', () => response.destroy());
          answer.once('aborted', () => response.destroy());
        });
        passed.once('error', () => response.destroy());
        response.once('close', () => passed.destroy());
        request.pipe(passed);
      }, delayMs);
    });
  }

  static async open(region: () => string, delayMs: number): Promise<Door> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Door(server, region, delayMs);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

let state: string;
let regions: Region[];
let doors: Door[];
let edge: EdgeHandle;
let undisturbed: string[];
const log: string[] = [];

beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-regions-'));
  const { url: store } = await prepareDemoStore(state);
  regions = NAMES.map(
    (name) => new Region(['--base', DEMO_BASE, '--store', store, '--region', name, '--threads', '1'], {}),
  );
  await Promise.all(regions.map((region) => region.start()));
  doors = await Promise.all(regions.map((region, i) => Door.open(() => region.url, 80 * i)));
  edge = await startEdge({
    regions: NAMES.map((name, i) => ({ name, url: doors[i]?.url ?? '', latitude: 50 - 45 * i, longitude: 10 })),
    place: { latitude: '50', longitude: '10' },
    variables: { CONNECT_TIMEOUT_MS: '3000', IDLE_TIMEOUT_MS: '3000' },
    onLog: ({ message }) => log.push(message),
  });
  undisturbed = (await all()).map(({ text }) => text);
}, 120_000);
afterAll(async () => {
  await edge?.close();
  for (const door of doors ?? []) door.close();
  await Promise.all((regions ?? []).map((region) => region.stop('SIGKILL')));
  await rm(state, { recursive: true, force: true });
});
/** A region that has failed is left alone for a while; what a test does to it would touch nobody. */
beforeEach(async () => {
  const giveUp = Date.now() + 60_000;
  while ((await stream(0)).region !== 'near') {
    if (Date.now() > giveUp) throw new Error('the nearest region is not asked any more');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
});
afterEach(() => {
  for (const door of doors) door.intercept = () => false;
  expect(regions.flatMap(({ violations }) => violations)).toEqual([]);
});

interface Streamed {
  readonly text: string;
  readonly hasEnded: boolean;
  readonly region: string | null;
}

/** One of the streams; greedy, so that it is the same from every region. */
async function stream(i: number, onEvent: () => void = () => undefined): Promise<Streamed> {
  const response = await fetch(`${edge.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: MODELS[i % MODELS.length],
      messages: [{ role: 'user', content: `What is ${i} plus ${7 * i + 3}? Tell me a story about it.` }],
      temperature: 0,
      max_tokens: TOKENS,
      ignore_eos: true,
      stream: true,
    }),
  });
  let raw = '';
  const decoder = new TextDecoder();
  for await (const part of response.body ?? []) {
    raw += decoder.decode(part, { stream: true });
    onEvent();
  }
  const payloads = raw.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? [event.slice(6)] : []));
  const chunks = payloads.filter((payload) => payload.startsWith('{')).map((payload) => JSON.parse(payload) as Chunk);
  expect(chunks.filter(({ error }) => error !== undefined)).toEqual([]);
  expect(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size).toBe(1);
  return {
    text: chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''),
    hasEnded: payloads.at(-1) === '[DONE]',
    region: response.headers.get('x-signpost-region'),
  };
}

interface Chunk {
  readonly id: string;
  readonly created: number;
  readonly error?: object;
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

const all = (onEvent?: () => void) => Promise.all(Array.from({ length: STREAMS }, (_, i) => stream(i, onEvent)));

async function expectUndisturbed(streams: readonly Streamed[]): Promise<void> {
  expect(streams.filter(({ hasEnded }) => !hasEnded)).toEqual([]);
  expect(streams.map(({ text }) => text)).toEqual(undisturbed);
}

const resumed = () => log.filter((line) => line.includes('"stream_resumed"')).length;
const regionAt = (i: number) => regions[i] ?? expect.unreachable('three were started');
const doorAt = (i: number) => doors[i] ?? expect.unreachable('three were opened');

describe('64 streams', () => {
  it('are answered by the nearest region while all is well', async () => {
    const streams = await all();
    await expectUndisturbed(streams);
    // Some may have been raced with the next one.
    expect(streams.filter(({ region }) => region === 'near').length).toBeGreaterThan(STREAMS / 2);
    expect(resumed()).toBe(0);
  });

  it('go on elsewhere, each bit for bit, when their region is killed', async () => {
    let events = 0;
    let killed: Promise<void> | undefined;
    const before = resumed();
    const streams = await all(() => {
      events++;
      if (events === STREAMS * 20) killed = regionAt(0).stop('SIGKILL');
    });
    await killed;
    await expectUndisturbed(streams);
    expect(resumed() - before).toBeGreaterThan(STREAMS / 8);
    await regionAt(0).start();
  });

  it('are answered elsewhere while a region takes requests and never answers', async () => {
    let taken = 0;
    doorAt(0).intercept = () => ++taken > 0;
    await expectUndisturbed(await all());
    expect(taken).toBeGreaterThan(STREAMS / 8);
  });

  it('survive regions that fall silent in the midst of them', async () => {
    let isSilent = false;
    // Two of the three: those that were raced with the second are in it, too.
    for (const door of doors.slice(0, 2)) {
      door.intercept = (_, response) => {
        const write = response.write.bind(response);
        response.write = ((...args: Parameters<typeof write>) => (isSilent ? true : write(...args))) as typeof write;
        const end = response.end.bind(response);
        response.end = ((...args: Parameters<typeof end>) => (isSilent ? response : end(...args))) as typeof end;
        return false;
      };
    }
    let events = 0;
    const before = resumed();
    const streams = await all(() => {
      events++;
      isSilent ||= events === STREAMS * 20;
    });
    await expectUndisturbed(streams);
    expect(resumed() - before).toBeGreaterThan(STREAMS / 8);
  });

  it('survive a region that answers 500 half the time', async () => {
    let requests = 0;
    doorAt(0).intercept = (_, response) => {
      if (requests++ % 2 === 0) return false;
      response.writeHead(500, { 'content-type': 'application/json' }).end('{"error":{"code":"internal_error"}}');
      return true;
    };
    await expectUndisturbed(await all());
    expect(requests).toBeGreaterThan(STREAMS / 2);
  });
});

describe('heartbeats', () => {
  const replicas = NAMES.map(() => randomUUID());
  const lie = (i: number, more: Partial<Heartbeat>) =>
    tellEdge(edge.url, heartbeatOf(NAMES[i] ?? '', { replica: replicas[i] ?? '', ...more }));

  it('that say all regions drain, or that a dead one is well, cost no answer', async () => {
    for (const i of NAMES.keys()) await lie(i, { draining: true });
    await expectUndisturbed(await all());
    await lie(0, { sentAt: Date.now() + 1, draining: false });
    await regionAt(0).stop('SIGKILL');
    await expectUndisturbed(await all());
    await regionAt(0).start();
  });
});
