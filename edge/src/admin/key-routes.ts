/**
 * `/admin/keys`: API keys made, listed, looked at and revoked.
 */
import { readBody } from '@signpost/contracts';
import { standingView } from '../keys/limit-headers.ts';
import { keyView, newKeySchema } from '../keys/record.ts';
import type { KeyRegistry } from '../keys/registry.ts';
import type { AdminRoute } from './routes.ts';

export interface KeyAdminParts {
  readonly keys: KeyRegistry;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export function keyRoutes({ keys, log }: KeyAdminParts): AdminRoute[] {
  return [
    {
      path: '/admin/keys',
      methods: {
        async GET() {
          const records = await keys.list();
          return Response.json({ object: 'list', data: records.map(keyView) });
        },
        /** The only answer that has the key's text. */
        async POST({ request, by }) {
          const { value } = await readBody(request, newKeySchema);
          const { text, record } = await keys.create(value, by);
          log('key_created', { key: record.id, tenant: record.tenant, by });
          return Response.json({ ...keyView(record), key: text }, { status: 201 });
        },
      },
    },
    {
      path: '/admin/keys/:id',
      methods: {
        async GET({ id }) {
          const { record, standing } = await keys.get(id);
          return Response.json({ ...keyView(record), limits: standing === undefined ? null : standingView(standing) });
        },
        async DELETE({ id, by }) {
          const record = await keys.revoke(id, by);
          log('key_revoked', { key: record.id, tenant: record.tenant, by });
          return Response.json(keyView(record));
        },
      },
    },
  ];
}
