/**
 * The hook that the edge calls where it finds the region asleep: has the service run one task, if it runs none.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

const answer = (statusCode, body) => ({
  statusCode,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

/**
 * @param {object} options
 * @param {string} options.keySha256 of the key that callers present, hex
 * @param {() => Promise<number>} options.desiredCount of the service
 * @param {(count: number) => Promise<void>} options.setDesiredCount
 * @returns {(event: { headers?: Record<string, string> }) => Promise<{ statusCode: number, headers: Record<string, string>, body: string }>} takes events of payload format 2.0
 */
export function wakeHandler({ keySha256, desiredCount, setDesiredCount }) {
  const expected = Buffer.from(keySha256, 'hex');
  // An empty one would equal the hash of nothing that can be presented, but also hide that it was never set.
  if (expected.length !== 32) throw new Error('KEY_SHA256 must be the SHA-256 of the key, 64 hexadecimal digits');
  return async function wake(event) {
    const presented = /^Bearer (?<key>.+)$/.exec(event.headers?.authorization ?? '')?.groups?.key ?? '';
    if (!timingSafeEqual(createHash('sha256').update(presented).digest(), expected))
      return answer(401, {
        error: 'the hook takes Authorization: Bearer KEY, with the key in the secret that REGIONS names',
      });
    if ((await desiredCount()) > 0) return answer(200, { state: 'running' });
    await setDesiredCount(1);
    return answer(202, { state: 'starting' });
  };
}
