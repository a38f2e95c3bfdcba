/**
 * One OpenTelemetry span a request, under the caller's trace, with the attributes of the `gen_ai` semantic conventions (1.37) and a child
 * span for each of waiting, prefill and decode. Prompts and answers are never part of it.
 *
 * Configured by OpenTelemetry's own environment variables; without an endpoint nothing is loaded and nothing is measured.
 */
import { setTimeout } from 'node:timers/promises';
import type { Attributes, Context, Tracer } from '@opentelemetry/api';
import { Problem } from '@signpost/contracts';

export interface TracingOptions {
  readonly region: string;
  readonly version: string;
}

/** A request as its span tells it. Times are milliseconds since the epoch. */
export interface RequestSpan {
  readonly operation: 'chat' | 'text_completion';
  readonly requestId: string;
  /** As the app asked for it. */
  readonly model: string;
  /** Digests of the experts that answered; none is the base. */
  readonly experts: readonly string[];
  /** W3C trace context of the caller. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  readonly parameters: {
    readonly temperature?: number | undefined;
    readonly topP?: number | undefined;
    readonly seed?: number | undefined;
    readonly maxTokens?: number | undefined;
    readonly choices?: number | undefined;
  };
  readonly startedAt: number;
  readonly endedAt: number;
  /** When its first tokens were about to be computed. */
  readonly scheduledAt: number | undefined;
  readonly firstTokenAt: number | undefined;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly finishReasons: readonly string[];
  /** Code of the error it ended with. */
  readonly errorCode: string | undefined;
}

export interface Tracing {
  record(span: RequestSpan): void;
  /** Sends what has been recorded, for at most a few seconds. */
  flush(): Promise<void>;
  /** Sends what is left, for at most a few seconds. */
  close(): Promise<void>;
}

const NO_TRACING: Tracing = { record() {}, flush: async () => undefined, close: async () => undefined };
const FLUSH_LIMIT_MS = 3_000;

/**
 * Starts exporting to `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP). Also read: the exporter's own variables
 * (headers, time-outs, certificates), `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER_ARG` (the share of traces kept where
 * the caller has not decided) and `OTEL_SDK_DISABLED`.
 *
 * @throws Problem for a share that is no number from 0 to 1.
 */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const environment = process.env;
  const endpoint = environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? environment.OTEL_EXPORTER_OTLP_ENDPOINT ?? '';
  if (endpoint === '' || environment.OTEL_SDK_DISABLED === 'true') return NO_TRACING;
  const ratio = Number(environment.OTEL_TRACES_SAMPLER_ARG ?? '1');
  if (!(ratio >= 0 && ratio <= 1)) {
    throw new Problem(
      `OTEL_TRACES_SAMPLER_ARG is "${environment.OTEL_TRACES_SAMPLER_ARG}"; expected the share of traces to keep, from 0 to 1`,
    );
  }
  const [{ OTLPTraceExporter }, sdk, resources, core, api] = await Promise.all([
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/core'),
    import('@opentelemetry/api'),
  ]);
  const own = resources.resourceFromAttributes({
    'service.name': environment.OTEL_SERVICE_NAME ?? 'signpost-backend',
    'service.version': options.version,
    'cloud.region': options.region,
  });
  const provider = new sdk.TracerProvider({
    resource: own.merge(resources.detectResources({ detectors: [resources.envDetector] })),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(ratio) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  const tracer = provider.getTracer('signpost', options.version);
  const propagator = new core.W3CTraceContextPropagator();
  const parentOf = ({ traceparent, tracestate }: RequestSpan): Context =>
    propagator.extract(
      api.ROOT_CONTEXT,
      { ...(traceparent === undefined ? {} : { traceparent }), ...(tracestate === undefined ? {} : { tracestate }) },
      api.defaultTextMapGetter,
    );
  return {
    record: (span) => recordSpan(tracer, api, parentOf(span), span),
    flush: () => soon(provider.forceFlush()),
    // Shutting down sends what is left.
    close: () => soon(provider.shutdown()),
  };
}

/** Where the collector doesn't answer, it is tried for long. */
async function soon(sending: Promise<void>): Promise<void> {
  await Promise.race([sending.catch(() => undefined), setTimeout(FLUSH_LIMIT_MS, undefined, { ref: false })]);
}

function recordSpan(
  tracer: Tracer,
  api: typeof import('@opentelemetry/api'),
  parent: Context,
  span: RequestSpan,
): void {
  const { startedAt, scheduledAt, firstTokenAt, endedAt, errorCode } = span;
  const server = tracer.startSpan(
    `${span.operation} ${span.model}`,
    { kind: api.SpanKind.SERVER, startTime: startedAt, attributes: attributes(span) },
    parent,
  );
  const inside = api.trace.setSpan(parent, server);
  const child = (name: string, from: number | undefined, to: number | undefined) => {
    if (from !== undefined) tracer.startSpan(name, { startTime: from }, inside).end(to ?? endedAt);
  };
  child('queue', startedAt, scheduledAt);
  child('prefill', scheduledAt, firstTokenAt);
  child('decode', firstTokenAt, endedAt);
  if (errorCode !== undefined) server.setStatus({ code: api.SpanStatusCode.ERROR, message: errorCode });
  server.end(endedAt);
}

function attributes(span: RequestSpan): Attributes {
  const { parameters, firstTokenAt, startedAt } = span;
  const given: Attributes = {
    'gen_ai.operation.name': span.operation,
    'gen_ai.provider.name': 'signpost',
    'gen_ai.request.model': span.model,
    'gen_ai.request.temperature': parameters.temperature,
    'gen_ai.request.top_p': parameters.topP,
    'gen_ai.request.seed': parameters.seed,
    'gen_ai.request.max_tokens': parameters.maxTokens,
    'gen_ai.request.choice.count': parameters.choices === 1 ? undefined : parameters.choices,
    'gen_ai.response.id': span.requestId,
    'gen_ai.response.model': span.experts.length === 0 ? 'base' : span.experts.join('+'),
    'gen_ai.response.finish_reasons': [...span.finishReasons],
    'gen_ai.usage.input_tokens': span.promptTokens,
    'gen_ai.usage.output_tokens': span.completionTokens,
    'signpost.usage.cached_tokens': span.cachedTokens,
    'signpost.time_to_first_token_ms': firstTokenAt === undefined ? undefined : firstTokenAt - startedAt,
    'error.type': span.errorCode,
  };
  return given;
}
