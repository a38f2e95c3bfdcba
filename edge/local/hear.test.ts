import { HEARTBEAT_AUDIENCE, HEARTBEAT_PATH, signingKey, signRequest } from '@signpost/contracts';
import { expect, it } from 'vitest';
import { heartbeatListener } from '../src/fleet/hear.ts';
import { readSettings } from '../src/settings/settings.ts';
import { heartbeatOf } from './heartbeats.ts';

const [OLD, NEW, STRANGE] = ['o', 'n', 's'].map((letter) => letter.repeat(32)) as [string, string, string];

it('a heartbeat is heard with either secret while that is being changed, and with no other', async () => {
  const settings = readSettings({
    REGIONS: '[{"name": "eu", "url": "https://eu.example"}]',
    ALLOW_ANONYMOUS: 'true',
    REGION_SECRET: `${NEW} ${OLD}`,
  });
  expect(settings.signingKey).toEqual(signingKey(NEW));
  const hear = heartbeatListener({ settings, hear: async () => true });
  const body = JSON.stringify(heartbeatOf('eu'));
  async function tell(secret: string): Promise<number> {
    const signed = { region: HEARTBEAT_AUDIENCE, method: 'POST', path: HEARTBEAT_PATH, body };
    const authorization = `Bearer ${await signRequest(signingKey(secret), signed, { tenant: undefined })}`;
    const request = new Request(`https://edge.example${HEARTBEAT_PATH}`, {
      method: 'POST',
      body,
      headers: { authorization },
    });
    return hear(request).then(
      ({ status }) => status,
      ({ status }: { status: number }) => status,
    );
  }
  expect([await tell(NEW), await tell(OLD), await tell(STRANGE)]).toEqual([200, 200, 401]);
});
