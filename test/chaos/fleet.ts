/**
 * Three real regions behind the real Worker, with a door before each region and each region's way to the edge, where what passes can be spoiled.
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
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { CATALOGUE_KEY, type Heartbeat, heartbeatSchema } from '@signpost/contracts';
import { prepareDemoStore } from '@signpost/demo';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { heartbeatOf, tellEdge } from '@signpost/edge/testing';
import { openStore } from '@signpost/store';
import { DEMO_BASE } from './family.ts';
import { Region } from './region.ts';
import { type Many, MIDST_EVENTS, type Streamed, stream, streamMany } from './streams.ts';

export const NAMES = ['near', 'middle', 'far'] as const;
/** What each is further away than the one before it. */
const STEP_MS = 80;
const STEP_DEGREES = 45;
/** Refuses connections: nothing listens there. */
const NOBODY = 'http://127.0.0.1:1';
/** A breaker's longest pause, and what starting takes. */
const BACK_WITHIN_MS = 60_000;
/** Isolates keep what they have heard for a second. */
const HEARD_WITHIN_MS = 15_000;

/** Takes a request in place of whom it is for; false passes it on. */
type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

const passAll: Intercept = () => false;
export const breakAll: Intercept = (_, response) => {
  response.destroy();
  return true;
};

/** Passes everything on, or what a test makes of it. */
class Door {
  readonly #server: Server;
  intercept: Intercept = passAll;

  private constructor(server: Server, target: () => string, delayMs: number) {
    this.#server = server;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (this.intercept(request, response)) return;
      // As far away as it says it is: what the edge measures takes geography's place.
      setTimeout(() => {
        const { method, url, headers } = request;
        const passed = httpRequest(`${target()}${url}`, { method, headers }, (answer) => {
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

  /** @param target URL of whom it is before */
  static async open(target: () => string, delayMs: number): Promise<Door> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Door(server, target, delayMs);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  reset(): void {
    this.intercept = passAll;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

interface Member {
  readonly name: string;
  /** Of a container that isn't there, and heartbeats can be said to be of. */
  readonly replica: string;
  readonly region: Region;
  /** What it is asked comes through this one, */
  readonly door: Door;
  /** and its heartbeats go through this one. */
  readonly beats: Door;
}

export interface FleetOptions {
  /** The Worker's, beside those of wrangler.toml. */
  readonly variables?: Readonly<Record<string, string>>;
  /** The regions' processes'. */
  readonly env?: Readonly<Record<string, string>>;
}

export class Fleet {
  readonly edge: EdgeHandle;
  readonly log: readonly string[];
  readonly #members: readonly Member[];
  readonly #state: string;
  /** URL of the regions' store. */
  readonly #store: string;

  private constructor(
    parts: Pick<Fleet, 'edge' | 'log' | 'members'> & { readonly state: string; readonly store: string },
  ) {
    this.edge = parts.edge;
    this.log = parts.log;
    this.#members = parts.members;
    this.#state = parts.state;
    this.#store = parts.store;
  }

  static async start({ variables = {}, env = {} }: FleetOptions = {}): Promise<Fleet> {
    const state = await mkdtemp(join(tmpdir(), 'signpost-regions-'));
    const { url: store } = await prepareDemoStore(state);
    const log: string[] = [];
    let edge: EdgeHandle | undefined;
    const members = await Promise.all(
      NAMES.map(async (name, i): Promise<Member> => {
        const beats = await Door.open(() => edge?.url ?? NOBODY, 0);
        const flags = ['--base', DEMO_BASE, '--store', store, '--region', name, '--threads', '1', '--edge', beats.url];
        const region = new Region(flags, env);
        await region.start();
        const door = await Door.open(() => region.url, STEP_MS * i);
        return { name, replica: randomUUID(), region, door, beats };
      }),
    );
    edge = await startEdge({
      regions: members.map(({ name, door }, i) => ({
        name,
        url: door.url,
        latitude: 50 - STEP_DEGREES * i,
        longitude: 10,
      })),
      place: { latitude: '50', longitude: '10' },
      variables,
      onLog: ({ message }) => log.push(message),
    });
    return new Fleet({ edge, log, members, state, store });
  }

  at(i: number): Member {
    const member = this.#members[i];
    if (member === undefined) throw new Error(`there are ${this.#members.length} regions, none at ${i}`);
    return member;
  }

  get members(): readonly Member[] {
    return this.#members;
  }

  /** Tells the edge how a region is, in the name of a container of its that is always the same. */
  async say(i: number, more: Partial<Heartbeat>): Promise<void> {
    const { name, replica } = this.at(i);
    await tellEdge(this.edge.url, heartbeatOf(name, { replica, ...more }));
  }

  /** What a region says of itself from its next heartbeat on, as `falsify` has it, until its door is reset. */
  lie(i: number, falsify: (truth: Heartbeat) => Partial<Heartbeat>): void {
    const passOn = async (request: IncomingMessage, response: ServerResponse) => {
      const truth = heartbeatSchema.parse(await json(request));
      const { status } = await tellEdge(this.edge.url, { ...truth, ...falsify(truth) });
      response.writeHead(status).end();
    };
    this.at(i).beats.intercept = (request, response) => {
      passOn(request, response).catch((error: unknown) => response.destroy(error as Error));
      return true;
    };
  }

  /** Has the edge know what the regions' experts are, which it otherwise doesn't: to be called before it is asked for anything. */
  async showCatalogue(): Promise<void> {
    const { data } = await openStore(this.#store).read(CATALOGUE_KEY);
    await this.edge.setArtifact(CATALOGUE_KEY, data);
  }

  /**
   * Has streams begin in the nearest region, for as long as a heartbeat counts: it is said to compute prompts in no time, so that however many it has been sent
   * none is worth the way to the next one.
   */
  async drawToNearest(): Promise<void> {
    const giveUp = Date.now() + HEARD_WITHIN_MS;
    await this.say(0, { prefillTokensPerSecond: 1e9 });
    while (!(await this.#plan()).includes('0 prompt tokens wait')) {
      if (Date.now() > giveUp) throw new Error('the edge does not hear what the nearest region is said to say');
      await sleep(100);
    }
  }

  /** Why the nearest region has its place in the plan. */
  async #plan(): Promise<string> {
    const body = JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hello' }] });
    const response = await fetch(`${this.edge.url}/v1/route`, { method: 'POST', body });
    const { plan } = (await response.json()) as { plan: { region: string; terms: { why: string }[] }[] };
    return (plan.find(({ region }) => region === NAMES[0])?.terms ?? []).map(({ why }) => why).join('; ');
  }

  /** How often a stream has gone on elsewhere. */
  get resumed(): number {
    return this.#resumes().length;
  }

  /** How often this region was where. */
  resumedBy(name: string): number {
    return this.#resumes().filter((line) => line.includes(`"to":"${name}"`)).length;
  }

  #resumes(): readonly string[] {
    return this.log.filter((line) => line.includes('"stream_resumed"'));
  }

  stream(i: number): Promise<Streamed> {
    return stream(this.edge.url, i);
  }

  streamMany(many?: Many): Promise<Streamed[]> {
    return streamMany(this.edge.url, many);
  }

  /** The nearest region dies in the midst of them, and is there again afterwards. */
  async streamManyWhileNearestDies({ from = 0 }: Pick<Many, 'from'> = {}): Promise<Streamed[]> {
    const { region } = this.at(0);
    let events = 0;
    let killed: Promise<void> | undefined;
    const streams = await this.streamMany({
      from,
      onEvent: () => {
        if (++events === MIDST_EVENTS) killed = region.stop('SIGKILL');
      },
    });
    await killed;
    await region.start();
    return streams;
  }

  /** A region that has failed is left alone for a while; what is done to it then touches nobody. */
  async untilNearestIsAsked(): Promise<void> {
    const giveUp = Date.now() + BACK_WITHIN_MS;
    while ((await this.stream(0)).region !== NAMES[0]) {
      if (Date.now() > giveUp) throw new Error('the nearest region is not asked any more');
      await sleep(100);
    }
  }

  /** What regions did that they never should. */
  get violations(): string[] {
    return this.#members.flatMap(({ region }) => region.violations);
  }

  async close(): Promise<void> {
    await this.edge.close();
    for (const { door, beats } of this.#members) {
      door.close();
      beats.close();
    }
    await Promise.all(this.#members.map(({ region }) => region.stop('SIGKILL')));
    await rm(this.#state, { recursive: true, force: true });
  }
}
