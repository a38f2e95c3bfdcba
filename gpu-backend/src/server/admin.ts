/**
 * The admin API: what an operator may do to a running region. Its key is its own: neither the edge's nor an app's opens it.
 */
import {
  ApiError,
  asDigest,
  type Digest,
  expertActionSchema,
  expertLoadSchema,
  parseBody,
  presentsKey,
  readText,
} from '@signpost/contracts';
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import type { CatalogueWatch } from '../experts/catalogue-watch.ts';
import type { StandingOrders } from '../experts/standing.ts';
import type { EngineClient } from '../runner/engine-client.ts';
import { listExperts } from './experts.ts';

export interface AdminDeps {
  readonly engine: EngineClient;
  readonly catalogue: CatalogueWatch;
  readonly standing: StandingOrders;
  /** Hash of the key; undefined where the API is off. */
  readonly adminKey: Digest | undefined;
  readonly draining: Draining;
  readonly log: Logger;
}

/** Whether a region refuses new requests, and for whom. */
export interface Draining {
  /** Because it is about to stop, or because its operator says so. */
  readonly isOn: boolean;
  /** What the operator says. */
  set(isOn: boolean): void;
}

/** Routes below `/admin`. */
export function adminRoutes(deps: AdminDeps): Hono {
  const { engine, catalogue, standing, draining, log } = deps;
  const app = new Hono();

  app.use(async function authorise(context, next) {
    await checkAdminKey(deps.adminKey, context.req.header('authorization'));
    await next();
  });

  app.get('/experts', async (context) => context.json(await listExperts(deps, await catalogue.catalogue())));

  app.post('/experts/load', async (context) => {
    const { model, timeout_ms: timeoutMs } = parseBody(await readText(context.req.raw), expertLoadSchema);
    const versions = await standing.versionsOf(model);
    const loaded = await Promise.all(
      versions.map(async (version) => ({ digest: version.digest, ...(await engine.load(version, timeoutMs)) })),
    );
    return done(context, 'load', { model, loaded });
  });

  app.post('/experts/pin', async (context) => {
    const { model } = await action(context);
    await standing.pin(model);
    return done(context, 'pin', { model, pins: standing.pins });
  });

  app.post('/experts/unpin', async (context) => {
    const { model } = await action(context);
    if (!standing.unpin(model)) {
      throw new ApiError(
        'not_found_error',
        'not_pinned',
        `"${model}" is not pinned; pinned: ${standing.pins.join(', ') || 'none'}`,
        { param: 'model' },
      );
    }
    return done(context, 'unpin', { model, pins: standing.pins });
  });

  app.post('/experts/evict', async (context) => {
    const { model } = await action(context);
    const digest = asDigest(model);
    const digests =
      digest === undefined ? (await standing.versionsOf(model)).map((version) => version.digest) : [digest];
    const pins = digests.flatMap((candidate) => standing.pinsOf(candidate));
    if (pins.length > 0) {
      throw new ApiError(
        'invalid_request_error',
        'pinned',
        `"${model}" is pinned by ${pins.join(', ')}; unpin it first`,
        {
          status: 409,
          param: 'model',
        },
      );
    }
    const evicted = await Promise.all(
      digests.map(async (candidate) => ({ digest: candidate, from: await engine.evict(candidate) })),
    );
    return done(context, 'evict', { model, evicted });
  });

  app.post('/drain', async (context) => {
    draining.set(true);
    const { running, waiting } = await engine.stats();
    return done(context, 'drain', { draining: true, running, waiting });
  });

  app.post('/resume', (context) => {
    draining.set(false);
    return done(context, 'resume', { draining: draining.isOn });
  });

  // Nothing below here is the edge's.
  app.all('*', ({ req: { method, path } }) => {
    throw new ApiError('not_found_error', 'unknown_path', `there is nothing at ${method} ${path}`);
  });

  /** Who ran what is for the log, too: this changes what a region does. */
  function done(context: Context, name: string, result: Record<string, unknown>): Response {
    log.info({ action: name, ...result }, 'admin');
    return context.json(result);
  }

  return app;
}

async function action(context: Context): Promise<{ readonly model: string }> {
  return parseBody(await readText(context.req.raw), expertActionSchema);
}

/** @throws ApiError (403) where there is no key, (401) for another one. */
async function checkAdminKey(key: Digest | undefined, authorization: string | undefined): Promise<void> {
  if (key === undefined) {
    throw new ApiError(
      'permission_error',
      'admin_disabled',
      'this region has no admin key, so nobody may use its admin API; start it with SIGNPOST_ADMIN_KEY (openssl rand -hex 32)',
    );
  }
  if (await presentsKey(authorization, key)) return;
  throw new ApiError(
    'authentication_error',
    'invalid_admin_key',
    'the admin API is used with "Authorization: Bearer <key>", where <key> is the SIGNPOST_ADMIN_KEY that this region was started with',
  );
}
