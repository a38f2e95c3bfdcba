/**
 * What this region measures, in Prometheus' text format.
 *
 * Names that begin with `vllm:` mean what they mean in vLLM, so that its dashboards, autoscaling rules and the Gateway API inference extension
 * work as they are; what vLLM has no name for begins with `signpost_`.
 */
import type { Digest } from '@signpost/contracts';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RegionStats, StepStats } from '../runner/protocol.ts';
import type { EngineObserver, RequestOutcome, RequestSummary } from '../runner/request-watch.ts';
import { pagingMetrics } from './paging-metrics.ts';

/** The base's name among the models served. */
const MODEL_NAME = 'base';

const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const TOKEN_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 40,
];
const REQUEST_SECONDS = [
  0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const STEP_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
const STEP_TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384];
const EXPERTS = [0, 1, 2, 4, 8, 16, 32];

/** vLLM's word for how a request ended; what failed is no success in any of them. */
const FINISHED_REASON: Record<RequestOutcome, 'stop' | 'length' | 'abort' | undefined> = {
  stop: 'stop',
  length: 'length',
  abort: 'abort',
  error: undefined,
};

export interface MetricsOptions {
  readonly region: string;
  /** Tokens of a block of the KV cache. */
  readonly blockTokens: number;
  /** What the engine holds at the time of a scrape. */
  readonly stats: () => Promise<RegionStats>;
  /** An expert's model names: what autoscalers and gateways know it by. */
  readonly modelNames: (digest: Digest) => readonly string[];
  /** Of the catalogue in force; undefined before the first. */
  readonly catalogueRevision: () => number | undefined;
}

export class Metrics implements EngineObserver {
  readonly #registry = new Registry();
  readonly #options: MetricsOptions;
  readonly #request;
  readonly #step;
  readonly #load;
  readonly #paging;
  readonly #refused: Counter<'code'>;
  readonly #catalogueProblems: Counter;
  readonly #catalogueRevision: Gauge;

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#registry.setDefaultLabels({ region: options.region, model_name: MODEL_NAME });
    collectDefaultMetrics({ register: this.#registry });
    this.#request = requestMetrics(this.#registry);
    this.#step = stepMetrics(this.#registry);
    this.#load = loadMetrics(this.#registry, options);
    this.#paging = pagingMetrics(this.#registry);
    this.#refused = new Counter({
      name: 'signpost_requests_refused_total',
      help: 'Requests answered with an error, by its code',
      labelNames: ['code'],
      registers: [this.#registry],
    });
    this.#catalogueProblems = new Counter({
      name: 'signpost_catalogue_problems_total',
      help: 'Times that the catalogue could not be read or was refused, and the last good one stayed',
      registers: [this.#registry],
    });
    this.#catalogueRevision = new Gauge({
      name: 'signpost_catalogue_revision',
      help: 'Revision of the catalogue in force; 0 before the first',
      registers: [this.#registry],
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The text of a scrape. An engine that is gone leaves the load gauges as they were; `signpost_engine_up` says so. */
  async render(): Promise<string> {
    this.#catalogueRevision.set(this.#options.catalogueRevision() ?? 0);
    try {
      const stats = await this.#options.stats();
      this.#load.set(stats);
      this.#paging.set(stats);
      this.#load.up.set(1);
    } catch {
      this.#load.up.set(0);
    }
    return this.#registry.metrics();
  }

  onStep(step: StepStats): void {
    const { seconds, tokens, experts, preemptions, queries, hits } = this.#step;
    seconds.observe(step.durationMs / 1000);
    tokens.observe(step.prefillTokens + step.decodeTokens);
    experts.observe(step.experts);
    preemptions.inc(step.preemptions);
    queries.inc(step.prefixQueries);
    hits.inc(step.prefixHits);
  }

  onToken(sinceLastMs: number | undefined): void {
    this.#request.generationTokens.inc();
    if (sinceLastMs !== undefined) this.#request.interToken.observe(sinceLastMs / 1000);
  }

  onRequestEnd({ outcome, experts, startedMs, firstTokenMs, finishedMs, ...tokens }: RequestSummary): void {
    const metrics = this.#request;
    const reason = FINISHED_REASON[outcome];
    if (reason !== undefined) metrics.success.inc({ finished_reason: reason });
    for (const expert of experts.length === 0 ? [MODEL_NAME] : experts) metrics.byExpert.inc({ expert });
    metrics.maxTokens.observe(tokens.maxTokens);
    metrics.promptLength.observe(tokens.promptTokens);
    metrics.answerLength.observe(tokens.generatedTokens);
    metrics.total.observe(finishedMs / 1000);
    if (startedMs === undefined) return;
    metrics.promptTokens.inc(tokens.promptTokens);
    metrics.cachedTokens.inc(tokens.cachedTokens);
    metrics.queued.observe(startedMs / 1000);
    metrics.inference.observe((finishedMs - startedMs) / 1000);
    if (firstTokenMs === undefined) return;
    const decodeSeconds = (finishedMs - firstTokenMs) / 1000;
    metrics.firstToken.observe(firstTokenMs / 1000);
    metrics.prefill.observe((firstTokenMs - startedMs) / 1000);
    metrics.decode.observe(decodeSeconds);
    if (tokens.generatedTokens > 1) metrics.perToken.observe(decodeSeconds / (tokens.generatedTokens - 1));
  }

  onRefused(code: string): void {
    this.#refused.inc({ code });
  }

  onCatalogueProblem(): void {
    this.#catalogueProblems.inc();
  }
}

/** What is measured of each request (of each choice, where one asks for several). */
function requestMetrics(registry: Registry) {
  const registers = [registry];
  const seconds = (name: string, help: string, buckets: number[]) => new Histogram({ name, help, buckets, registers });
  const tokens = (name: string, help: string) => new Histogram({ name, help, buckets: TOKENS, registers });
  const count = (name: string, help: string) => new Counter({ name, help, registers });
  return {
    success: new Counter({
      name: 'vllm:request_success_total',
      help: 'Requests that ended, by why',
      labelNames: ['finished_reason'],
      registers,
    }),
    byExpert: new Counter({
      name: 'signpost_expert_requests_total',
      help: 'Requests that ended, by the digest of each expert that answered them',
      labelNames: ['expert'],
      registers,
    }),
    promptTokens: count('vllm:prompt_tokens_total', 'Prompt tokens taken in'),
    cachedTokens: count('signpost_prompt_tokens_cached_total', 'Prompt tokens that the prefix cache had'),
    generationTokens: count('vllm:generation_tokens_total', 'Tokens generated'),
    firstToken: seconds('vllm:time_to_first_token_seconds', 'From submission to the first token', FIRST_TOKEN_SECONDS),
    interToken: seconds('vllm:inter_token_latency_seconds', 'From one token to the next', TOKEN_SECONDS),
    perToken: seconds(
      'vllm:request_time_per_output_token_seconds',
      "A request's mean time from one token to the next",
      TOKEN_SECONDS,
    ),
    total: seconds('vllm:e2e_request_latency_seconds', 'From submission to the end', REQUEST_SECONDS),
    queued: seconds('vllm:request_queue_time_seconds', 'Waiting for a slot and for a place in a step', REQUEST_SECONDS),
    inference: seconds('vllm:request_inference_time_seconds', 'From the first step to the end', REQUEST_SECONDS),
    prefill: seconds('vllm:request_prefill_time_seconds', 'From the first step to the first token', REQUEST_SECONDS),
    decode: seconds('vllm:request_decode_time_seconds', 'From the first token to the end', REQUEST_SECONDS),
    promptLength: tokens('vllm:request_prompt_tokens', 'Prompt tokens of a request'),
    answerLength: tokens('vllm:request_generation_tokens', 'Tokens generated for a request'),
    maxTokens: tokens('vllm:request_params_max_tokens', 'The longest answer a request allows'),
  };
}

function stepMetrics(registry: Registry) {
  const registers = [registry];
  return {
    seconds: new Histogram({
      name: 'signpost_step_seconds',
      help: 'Time of a step of the model',
      buckets: STEP_SECONDS,
      registers,
    }),
    tokens: new Histogram({
      name: 'vllm:iteration_tokens_total',
      help: 'Tokens computed in a step',
      buckets: STEP_TOKENS,
      registers,
    }),
    experts: new Histogram({
      name: 'signpost_step_experts',
      help: 'Distinct experts that a step reads',
      buckets: EXPERTS,
      registers,
    }),
    preemptions: new Counter({
      name: 'vllm:num_preemptions_total',
      help: 'Requests whose blocks were taken for others, to be computed again',
      registers,
    }),
    queries: new Counter({
      name: 'vllm:prefix_cache_queries_total',
      help: 'Tokens looked up in the prefix cache',
      registers,
    }),
    hits: new Counter({ name: 'vllm:prefix_cache_hits_total', help: 'Tokens found in the prefix cache', registers }),
  };
}

/** What a scrape reads off the engine. */
function loadMetrics(registry: Registry, { blockTokens, modelNames }: MetricsOptions) {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const running = gauge('vllm:num_requests_running', 'Requests in the running batch');
  const waiting = gauge('vllm:num_requests_waiting', 'Requests that wait for a slot or for a place');
  const kvUsage = gauge('vllm:kv_cache_usage_perc', 'Share of the KV cache in use, 0 to 1');
  const lora = new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'Experts by whether their requests run or wait; the value is the time, in seconds since the epoch',
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers,
  });
  const cache = new Gauge({
    name: 'vllm:cache_config_info',
    help: 'Sizes of the KV cache',
    labelNames: ['block_size', 'num_gpu_blocks'],
    registers,
  });
  return {
    up: gauge('signpost_engine_up', '1 while the engine thread lives'),
    set(stats: RegionStats): void {
      running.set(stats.running);
      waiting.set(stats.waiting);
      kvUsage.set(stats.kvBlocks === 0 ? 0 : 1 - stats.kvBlocksFree / stats.kvBlocks);
      cache.set({ block_size: blockTokens, num_gpu_blocks: stats.kvBlocks }, 1);
      const names = (is: 'running' | 'waiting') =>
        stats.experts.flatMap((load) => (load[is] > 0 ? modelNames(load.digest) : [])).join(',');
      lora.reset();
      lora.set(
        {
          max_lora: stats.residency.slots,
          running_lora_adapters: names('running'),
          waiting_lora_adapters: names('waiting'),
        },
        Math.floor(Date.now() / 1000),
      );
    },
  };
}
