/**
 * A region in a process of its own, as its supervisor sees it: it can be killed, and when it ends by itself or shows no life that is seen.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Heartbeat, heartbeatSchema } from '@signpost/contracts';

const BIN = join(import.meta.dirname, '../../gpu-backend/bin/signpost-backend.mjs');
/** pino's `fatal`. */
const FATAL = 60;
const LIFE_EVERY_MS = 200;
/** A supervisor's patience, and what a machine with other work to do may add. */
const LIFE_LIMIT_MS = 15_000;
const LOAD_OUTCOMES = ['loaded', 'failed', 'cancelled'] as const;
type LoadOutcome = (typeof LOAD_OUTCOMES)[number];

export class Region {
  /** Rises when it is taken down on purpose: what was in flight then may have broken off. */
  downs = 0;
  isUp = false;
  /** What it should never do. */
  readonly violations: string[] = [];
  /** What its log tells of trouble that failed no request. */
  readonly problems: string[] = [];
  readonly #flags: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #url = '';

  constructor(flags: readonly string[], env: Readonly<Record<string, string>>) {
    this.#flags = flags;
    this.#env = env;
  }

  get url(): string {
    return this.#url;
  }

  /** Starts it, or starts it again, and waits until it is ready. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [BIN, '--port', '0', ...this.#flags], {
      // The SDK's own opinion of this Node would stand on stderr, where nothing should.
      env: { ...process.env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true', ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stderr.on('data', (chunk) => this.violations.push(`the region wrote to stderr: ${chunk}`));
    child.once('exit', (code, signal) => {
      if (this.#child !== child) return;
      this.isUp = false;
      this.#child = undefined;
      this.violations.push(`the region ended by itself (${signal ?? code})`);
    });
    await new Promise<void>((resolve, reject) => {
      child.once('exit', () => reject(new Error(`the region did not start: ${this.violations.join('; ')}`)));
      createInterface(child.stdout).on('line', (line) => {
        const { level, msg, url, problem } = JSON.parse(line) as {
          level: number;
          msg: string;
          url?: string;
          problem?: string;
        };
        if (level >= FATAL) this.violations.push(`the region's log: ${line}`);
        if (problem !== undefined) this.problems.push(problem);
        if (msg !== 'ready' || url === undefined) return;
        this.#url = url;
        this.isUp = true;
        void this.#watchLife(child);
        resolve();
      });
    });
  }

  /** Takes it down and waits until it is gone. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.downs++;
    this.isUp = false;
    this.#child = undefined;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** A supervisor's question, all the time, over a connection of its own as kubelet's is: one that is kept breaks when this process stalls for longer. */
  async #watchLife(child: ChildProcess): Promise<void> {
    while (this.#child === child) {
      const signal = AbortSignal.timeout(LIFE_LIMIT_MS);
      const asked = fetch(`${this.#url}/health/live`, { signal, headers: { connection: 'close' } });
      const status = await asked.then(
        (response) => response.status,
        (error) => `${error} (${error.cause})`,
      );
      if (this.#child === child && status !== 200) this.violations.push(`/health/live: ${status}`);
      await sleep(LIFE_EVERY_MS);
    }
  }

  async heartbeat(): Promise<Heartbeat> {
    return heartbeatSchema.parse(await (await fetch(`${this.#url}/heartbeat`)).json());
  }

  /** The value of each series, by name and labels other than those that all have. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.#url}/metrics`)).text();
    const series = new Map<string, number>();
    for (const [, name = '', labels = '', value] of text.matchAll(/^([a-z_:]+)\{?(.*?)\}? (\S+)$/gm)) {
      const own = labels.split(',').filter((label) => label !== '' && !/^(region|model_name)=/.test(label));
      series.set(own.length === 0 ? name : `${name}{${own}}`, Number(value));
    }
    return series;
  }

  async metric(name: string): Promise<number> {
    return (await this.metrics()).get(name) ?? 0;
  }

  /** Loads of experts that have ended so. */
  loads(outcome: LoadOutcome): Promise<number> {
    return this.metric(loadsOf(outcome));
  }

  async loadsBegun(): Promise<number> {
    const series = await this.metrics();
    const counted = [...LOAD_OUTCOMES.map(loadsOf), 'signpost_experts_loading'];
    return counted.reduce((sum, name) => sum + (series.get(name) ?? 0), 0);
  }
}

const loadsOf = (outcome: LoadOutcome) => `signpost_expert_loads_total{tier="device",outcome="${outcome}"}`;
