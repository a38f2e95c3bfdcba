/**
 * The admin API, `/admin/…`: for whoever runs this edge, with keys of its own (secret ADMIN_KEY_HASHES) that ask no models, as API keys do nothing here.
 * Without that secret there is none.
 */
import { ApiError } from '@signpost/contracts';
import { identifyAdministrator } from '../auth/keys.ts';
import { dispatch, findRoute } from '../dispatch.ts';
import type { Settings } from '../settings/settings.ts';
import { type ConfigAdminParts, configRoutes } from './config-routes.ts';
import { type DecisionAdminParts, decisionRoutes } from './decision-routes.ts';
import { type FleetAdminParts, fleetRoutes } from './fleet-routes.ts';
import { type KeyAdminParts, keyRoutes } from './key-routes.ts';
import type { AdminRoute } from './routes.ts';
import { type ShadowAdminParts, shadowRoutes } from './shadow-routes.ts';
import { type TrialAdminParts, trialRoutes } from './trial-routes.ts';

export const ADMIN_PATH = '/admin/';

export interface AdminParts
  extends KeyAdminParts,
    ConfigAdminParts,
    ShadowAdminParts,
    FleetAdminParts,
    DecisionAdminParts,
    TrialAdminParts {
  readonly settings: Settings;
}

export class Admin {
  readonly #administrators: Settings['administrators'];
  readonly #routes: readonly AdminRoute[];

  constructor(parts: AdminParts) {
    this.#administrators = parts.settings.administrators;
    this.#routes = [
      ...keyRoutes(parts),
      ...configRoutes(parts),
      ...shadowRoutes(parts),
      ...fleetRoutes(parts),
      ...decisionRoutes(parts),
      ...trialRoutes(parts),
    ];
  }

  /** @throws ApiError (401) for all but administrators, (404) for what there is not. */
  async handle(request: Request, pathname: string, waitUntil: (promise: Promise<unknown>) => void): Promise<Response> {
    if (this.#administrators.size === 0) {
      throw new ApiError(
        'not_found_error',
        'admin_off',
        'this edge has no admin API; it has one once the secret ADMIN_KEY_HASHES is set',
      );
    }
    const by = await identifyAdministrator(request.headers.get('authorization'), this.#administrators);
    const route = findRoute(this.#routes, pathname);
    const call = { request, by, id: route?.id ?? '', waitUntil };
    const response = await dispatch(route, { method: request.method, pathname }, call);
    response.headers.set('cache-control', 'no-store');
    return response;
  }
}
