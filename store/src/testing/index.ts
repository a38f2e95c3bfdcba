/**
 * S3 servers for tests, here and in the rooms that use a store.
 */
import { findGateway, startGateway } from './gateway.ts';
import { S3Server, type S3ServerOptions } from './s3-server.ts';

export { type S3RequestInfo, TEST_BUCKET } from './s3-server.ts';

export interface TestS3 {
  /** What the AWS SDK reads, for `vi.stubEnv`. */
  readonly env: Readonly<Record<string, string>>;
  readonly close: () => Promise<void>;
}

const CREDENTIALS = { id: 'signpost', secret: 'signpost-test-secret' };

/** The S3 server in memory. */
export async function startMemoryS3(options: S3ServerOptions = {}): Promise<TestS3> {
  const server = new S3Server(options);
  return { env: environment(await server.listen()), close: () => server.close() };
}

export function hasRealS3(): boolean {
  return findGateway() !== undefined;
}

/** A real S3 server, where `hasRealS3`. */
export async function startRealS3(): Promise<TestS3> {
  const path = findGateway();
  if (path === undefined) throw new Error('versitygw is not installed');
  const { endpoint, close } = await startGateway(path, CREDENTIALS);
  return { env: environment(endpoint), close };
}

function environment(endpoint: string): TestS3['env'] {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: CREDENTIALS.id,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secret,
  };
}
