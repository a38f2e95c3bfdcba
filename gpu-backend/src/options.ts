/**
 * What a region is started with, and whether that makes sense.
 */
import { Problem, type RegionKeys, regionKeys } from '@signpost/contracts';
import { type DeviceName, MOST_STEPS, type WeightFormat } from '@signpost/engine';

export interface BackendOptions {
  /** Base checkpoint folder; or `store:` and the name or digest of one that is in the store, or nothing where there is only one. */
  readonly base: string;
  /** Folder where a base from the store is kept. */
  readonly baseCache?: string;
  /** Store URL of the experts. */
  readonly store: string;
  /** This region's name, as the edge knows it. */
  readonly region: string;
  readonly host?: string;
  /** 0 for any free one. */
  readonly port?: number;
  /** Shared with the edge, at least 32 bytes, or two of them (see `regionKeys`); without it the server listens on this machine only. */
  readonly secret?: string;
  /** What metrics are read with; needed where there is a `secret`, else everybody on this machine may read them. */
  readonly metricsKey?: string;
  /** Whether metrics need no key. */
  readonly openMetrics?: boolean;
  /** What the admin API is used with; without it that is off. */
  readonly adminKey?: string;
  /** Files of public keys; with one or more, only a catalogue that one of them signed is taken. */
  readonly catalogueKey?: readonly string[];
  readonly device?: DeviceName;
  /** Whether device `webgpu` may be an adapter that computes on the CPU. */
  readonly allowSoftwareGpu?: boolean;
  /** Bytes of the GPU's memory that may be used; as much as it takes if left out. */
  readonly gpuMemoryBytes?: number;
  /** File that keeps which sizes of kernels the GPU is fastest with; in the user's cache folder if left out. */
  readonly gpuTuningFile?: string;
  /** Bytes of one expert slot on the GPU; room for two planes a matrix if left out. */
  readonly slotBytes?: number;
  /** How the base's weights are held in memory: as the checkpoint stores them, in 8 bits, or in 4. */
  readonly weights?: WeightFormat;
  /** Expert slots. */
  readonly slots?: number;
  /** Bytes of delta files kept in memory. */
  readonly hostCacheBytes?: number;
  /** Folder where delta files are kept beyond a restart; nowhere if left out. */
  readonly diskCache?: string;
  /** Bytes of delta files kept there. */
  readonly diskCacheBytes?: number;
  /** Experts kept in slots: `NAME`, `NAME@CHANNEL`, `NAME@DIGEST`. */
  readonly pin?: readonly string[];
  /** URLs of the edges that are told how this region is. */
  readonly edge?: readonly string[];
  /** Tokens that the KV cache holds. */
  readonly kvTokens?: number;
  /** Most rows of one step. */
  readonly maxStepTokens?: number;
  /** Most sequences that run at once. */
  readonly maxSequences?: number;
  /** Most experts that one step reads. */
  readonly maxStepExperts?: number;
  /** Most tokens of an answer that a GPU chooses before they are read back, where nothing else has work to do. */
  readonly decodeSteps?: number;
  /** Tokens of a block of the KV cache. */
  readonly blockTokens?: number;
  /** Requests in flight beyond which new ones are refused. */
  readonly maxRequests?: number;
  /** Prompt tokens in wait for their first step beyond which new requests are refused. */
  readonly maxQueuedTokens?: number;
  /** What a request may take, from its arrival to its last token. */
  readonly requestTimeoutMs?: number;
  /** Most tokens of a chat answer whose request doesn't say. */
  readonly defaultMaxTokens?: number;
  readonly logLevel?: string;
  /** Whether the log tells what was asked, too. */
  readonly logPrompts?: boolean;
  /** Takes the log, a JSON line at a time; standard output when left out. */
  readonly onLog?: (line: string) => void;
}

type Defaults = Required<
  Omit<
    BackendOptions,
    | 'base'
    | 'baseCache'
    | 'store'
    | 'region'
    | 'secret'
    | 'metricsKey'
    | 'adminKey'
    | 'catalogueKey'
    | 'diskCache'
    | 'gpuMemoryBytes'
    | 'gpuTuningFile'
    | 'slotBytes'
    | 'pin'
    | 'edge'
    | 'onLog'
  >
>;

export const BACKEND_DEFAULTS: Defaults = {
  host: '127.0.0.1',
  port: 8000,
  device: 'cpu',
  allowSoftwareGpu: false,
  weights: 'bf16',
  slots: 8,
  hostCacheBytes: 2 ** 30,
  diskCacheBytes: 16 * 2 ** 30,
  kvTokens: 16_384,
  maxStepTokens: 256,
  maxSequences: 64,
  maxStepExperts: 8,
  decodeSteps: 4,
  blockTokens: 16,
  maxRequests: 256,
  maxQueuedTokens: 65_536,
  requestTimeoutMs: 600_000,
  defaultMaxTokens: 1_024,
  logLevel: 'info',
  logPrompts: false,
  openMetrics: false,
};

/** What holds for a region whoever takes its requests in: all but where it listens. */
export type RegionOptions = Omit<BackendOptions, 'host' | 'port'>;
export type RegionSettings = Omit<Defaults, 'host' | 'port'> & RegionOptions;

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

/** @throws Problem for a URL that is none, or one that would be told over the network without a signature. */
export function edgeUrls({ edge = [], secret }: Pick<BackendOptions, 'edge' | 'secret'>): string[] {
  return edge.map((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol)) throw new Problem(`--edge "${text}" is no http(s) URL`);
    if (secret === undefined && !LOOPBACK.has(url.hostname.replace(/[[\]]/g, '')))
      throw new Problem(
        `--edge ${text} is not on this machine, so heartbeats to it must be signed: set SIGNPOST_REGION_SECRET`,
      );
    return text.replace(/\/+$/, '');
  });
}

/** The keys that the edge may sign with, and the one for what it is told. @throws Problem for a secret that is too short. */
export function edgeKeys(secret: string): RegionKeys {
  try {
    return regionKeys(secret);
  } catch (cause) {
    throw new Problem(`SIGNPOST_REGION_SECRET: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** The same for a server at `host`; undefined on one that only this machine reaches. @throws Problem where others would reach it, and there is no secret. */
export function edgeKeysAt(host: string, secret: string | undefined): RegionKeys | undefined {
  if (secret !== undefined) return edgeKeys(secret);
  if (LOOPBACK.has(host)) return undefined;
  throw new Problem(
    `without SIGNPOST_REGION_SECRET anyone who reaches ${host} could use this region; set it (openssl rand -hex 32), or listen on 127.0.0.1`,
  );
}

/** @throws Problem for a size that nothing could be served with. */
export function checkSizes(settings: RegionSettings): void {
  const sizes = [
    'hostCacheBytes',
    'diskCacheBytes',
    'kvTokens',
    'maxStepTokens',
    'maxSequences',
    'maxStepExperts',
    'decodeSteps',
    'blockTokens',
    'maxRequests',
    'maxQueuedTokens',
    'requestTimeoutMs',
    'defaultMaxTokens',
  ] as const;
  for (const name of sizes) {
    if (!(settings[name] >= 1))
      throw new Problem(`${name} is ${settings[name]}; at least 1 is needed to serve anything`);
  }
  if (settings.decodeSteps > MOST_STEPS)
    throw new Problem(
      `decodeSteps is ${settings.decodeSteps}; at most ${MOST_STEPS} tokens are chosen before they are read back: lower --decode-steps`,
    );
}
