/**
 * The edge's API, on web standards: a `Request` in, a `Response` out. Platform-free; `worker.ts` binds it to Cloudflare.
 */
import { HEARTBEAT_PATH } from '@signpost/contracts';
import type { Accounts } from './accounts/accounts.ts';
import { type FeedbackOptions, listFeedback, takeFeedback } from './accounts/feedback.ts';
import { answerMetrics } from './accounts/metrics.ts';
import { ADMIN_PATH, type Admin } from './admin/admin.ts';
import { answerError } from './answer-error.ts';
import { answerConsole, type ConsoleFiles, isConsole } from './console/console.ts';
import { dispatch, findRoute, type Route } from './dispatch.ts';
import { type HeartbeatParts, heartbeatListener } from './fleet/hear.ts';
import { answerHealth } from './fleet/status.ts';
import type { Door } from './keys/door.ts';
import { openapiText } from './openapi/document.ts';
import type { Handling, RequestContext } from './serve/handling.ts';
import { Reception } from './serve/reception.ts';
import { Service, type ServiceParts } from './serve/serve.ts';

export interface GatewayParts extends Omit<ServiceParts, 'reception'>, Pick<HeartbeatParts, 'hear'> {
  /** Lets requests in by their keys. */
  readonly door: Door;
  readonly admin: Admin;
  readonly accounts: Accounts;
  readonly feedback: FeedbackOptions;
  /** What all isolates have counted, as Prometheus reads it. */
  readonly metrics: () => Promise<string>;
  readonly consoleFiles: ConsoleFiles;
}

export class Gateway {
  readonly #parts: GatewayParts;
  readonly #routes: readonly Route<Handling>[];

  constructor(parts: GatewayParts) {
    this.#parts = parts;
    const reception = new Reception(parts);
    const service = new Service({ ...parts, reception });
    const hear = heartbeatListener(parts);
    const { settings, feedback, metrics } = parts;
    this.#routes = [
      {
        path: '/v1/chat/completions',
        methods: { POST: (handling) => service.generate(handling, '/v1/chat/completions') },
      },
      { path: '/v1/completions', methods: { POST: (handling) => service.generate(handling, '/v1/completions') } },
      { path: '/tokenize', methods: { POST: (handling) => service.tokens(handling, '/tokenize') } },
      { path: '/detokenize', methods: { POST: (handling) => service.tokens(handling, '/detokenize') } },
      { path: '/v1/route', methods: { POST: (handling) => service.explain(handling) } },
      { path: '/v1/models', methods: { GET: (handling) => service.models(handling) } },
      {
        path: '/v1/feedback',
        methods: {
          POST: async (handling) => takeFeedback(handling.request, (await reception.guest(handling)).tenant, feedback),
          GET: async (handling) =>
            listFeedback(new URL(handling.request.url), (await reception.guest(handling)).tenant, feedback),
        },
      },
      { path: '/metrics', methods: { GET: ({ request }) => answerMetrics(request, settings, metrics) } },
      { path: HEARTBEAT_PATH, methods: { POST: ({ request }) => hear(request) } },
      { path: '/health', methods: { GET: ({ request, waitUntil }) => answerHealth(request, parts, waitUntil) } },
      {
        path: '/openapi.json',
        methods: {
          GET: async () => new Response(openapiText(), { headers: { 'content-type': 'application/json' } }),
        },
      },
    ];
  }

  /** `GET /health`: all there are. */
  get endpoints(): string[] {
    return this.#routes.flatMap(({ path, methods }) => Object.keys(methods).map((one) => `${one} ${path}`));
  }

  async handle(request: Request, context: RequestContext): Promise<Response> {
    const pathname = pathOf(request.url);
    const route = findRoute(this.#routes, pathname);
    const { admin, accounts, classifier, log } = this.#parts;
    const account = accounts.open({ request, path: route?.path, ...context });
    try {
      if (pathname.startsWith(ADMIN_PATH))
        return account.answers(await admin.handle(request, pathname, context.waitUntil));
      if (route === undefined && isConsole(pathname))
        return account.answers(await answerConsole(request, pathname, this.#parts.consoleFiles));
      return account.answers(
        await dispatch(route, { method: request.method, pathname }, { ...context, request, account }),
      );
    } catch (error) {
      if (request.signal.aborted) account.leaves();
      const told = answerError(error, request, context.requestId, log);
      account.refuses(told.error);
      return account.answers(told.response);
    } finally {
      // Only now: starting keeps the isolate busy, and this answer is under way.
      const start = route === undefined ? undefined : classifier.due();
      if (start !== undefined) context.waitUntil(start);
    }
  }
}

/** Of an absolute URL, as it was sent. (A `URL` would be as much work as checking the body.) */
function pathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf('://') + 3);
  const end = url.slice(start).search(/[?#]/);
  return end === -1 ? url.slice(start) : url.slice(start, start + end);
}
