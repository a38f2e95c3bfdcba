/**
 * Spans as a collector receives them: OTLP over HTTP, in JSON.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type RequestSpan, startTracing } from './tracing.ts';

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number; readonly message?: string };
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[];
}
interface OtlpBody {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: OtlpSpan['attributes'] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

const bodies: { readonly path: string; readonly headers: Record<string, unknown>; readonly body: OtlpBody }[] = [];
let collector: Server;
let endpoint: string;
beforeAll(async () => {
  collector = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as OtlpBody;
    bodies.push({ path: request.url ?? '', headers: request.headers, body });
    response.setHeader('content-type', 'application/json').end('{}');
  });
  collector.listen(0, '127.0.0.1');
  await once(collector, 'listening');
  endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
});
afterAll(() => collector.close());
afterEach(() => {
  vi.unstubAllEnvs();
  bodies.length = 0;
});

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const START = Date.UTC(2026, 0, 1);
const span: RequestSpan = {
  operation: 'chat',
  requestId: 'req-1',
  model: 'math@stable',
  experts: ['a'.repeat(64)],
  traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
  tracestate: undefined,
  parameters: { temperature: 0.5, maxTokens: 64 },
  startedAt: START,
  scheduledAt: START + 10,
  firstTokenAt: START + 35,
  endedAt: START + 100,
  promptTokens: 12,
  cachedTokens: 8,
  completionTokens: 5,
  finishReasons: ['stop'],
  errorCode: undefined,
};

/** Spans by name, and what they hang under. */
async function exported(...spans: readonly RequestSpan[]): Promise<Map<string, OtlpSpan>> {
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', endpoint);
  const tracing = await startTracing({ region: 'eu', version: '1.2.3' });
  for (const one of spans) tracing.record(one);
  await tracing.close();
  const all = bodies.flatMap(({ body }) => body.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans)));
  return new Map(all.map((one) => [one.name, one]));
}
const attribute = (of: Pick<OtlpSpan, 'attributes'> | undefined, key: string) =>
  Object.values(of?.attributes.find((one) => one.key === key)?.value ?? {})[0];

describe('tracing', () => {
  it("puts a request's span under the caller's, with its phases beneath it", async () => {
    const spans = await exported(span);
    const server = spans.get('chat math@stable');
    expect(server).toMatchObject({ traceId: TRACE, parentSpanId: 'b7ad6b7169203331', kind: 2 });
    expect(bodies[0]?.path).toBe('/v1/traces');
    const nanos = (ms: number) => String(BigInt(ms) * 1_000_000n);
    expect(server).toMatchObject({ startTimeUnixNano: nanos(START), endTimeUnixNano: nanos(START + 100) });
    const phases = { queue: [0, 10], prefill: [10, 35], decode: [35, 100] } as const;
    for (const [name, [from, to]] of Object.entries(phases)) {
      expect(spans.get(name)).toMatchObject({
        parentSpanId: server?.spanId,
        startTimeUnixNano: nanos(START + from),
        endTimeUnixNano: nanos(START + to),
      });
    }
    const of = (key: string) => attribute(server, key);
    expect(of('gen_ai.operation.name')).toBe('chat');
    expect(of('gen_ai.request.model')).toBe('math@stable');
    expect(of('gen_ai.response.model')).toBe('a'.repeat(64));
    expect(of('gen_ai.request.temperature')).toBe(0.5);
    expect(of('gen_ai.usage.input_tokens')).toBe(12);
    expect(of('gen_ai.usage.output_tokens')).toBe(5);
    expect(of('gen_ai.response.finish_reasons')).toEqual({ values: [{ stringValue: 'stop' }] });
    const [resource] = bodies.flatMap(({ body }) => body.resourceSpans.map((one) => one.resource));
    expect(attribute(resource, 'service.name')).toBe('signpost-backend');
    expect(attribute(resource, 'cloud.region')).toBe('eu');
  });

  it('marks a request that failed before it was scheduled, and begins a trace where there is none', async () => {
    const failed = { ...span, traceparent: undefined, scheduledAt: undefined, firstTokenAt: undefined };
    const spans = await exported({ ...failed, errorCode: 'expert_unavailable', finishReasons: [] });
    expect([...spans.keys()]).toEqual(['queue', 'chat math@stable']);
    const server = spans.get('chat math@stable');
    expect(server?.status).toEqual({ code: 2, message: 'expert_unavailable' });
    expect(server?.parentSpanId ?? '').toBe('');
    expect(attribute(server, 'error.type')).toBe('expert_unavailable');
  });

  it("leaves out what the caller doesn't trace, and the share that isn't to be kept", async () => {
    expect((await exported({ ...span, traceparent: `00-${TRACE}-b7ad6b7169203331-00` })).size).toBe(0);
    vi.stubEnv('OTEL_TRACES_SAMPLER_ARG', '0');
    expect((await exported({ ...span, traceparent: undefined })).size).toBe(0);
    expect((await exported(span)).size).toBe(4);
  });

  it('sends what it has when asked to, and goes on', async () => {
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', endpoint);
    const tracing = await startTracing({ region: 'eu', version: '1' });
    for (const sent of [1, 2]) {
      tracing.record(span);
      await tracing.flush();
      expect(bodies).toHaveLength(sent);
    }
    await tracing.close();
  });

  it('needs a share from 0 to 1', async () => {
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', endpoint);
    vi.stubEnv('OTEL_TRACES_SAMPLER_ARG', '5');
    await expect(startTracing({ region: 'eu', version: '1' })).rejects.toThrow(/OTEL_TRACES_SAMPLER_ARG is "5"/);
  });

  it('does nothing without an endpoint, and survives a collector that is gone', async () => {
    const off = await startTracing({ region: 'eu', version: '1' });
    off.record(span);
    await off.flush();
    await off.close();
    expect(bodies).toHaveLength(0);
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:9');
    const lost = await startTracing({ region: 'eu', version: '1' });
    lost.record(span);
    await lost.flush();
    await lost.close();
  });
});
