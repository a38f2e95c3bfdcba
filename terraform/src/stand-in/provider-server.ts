/**
 * Stands for the providers before a real `terraform` or `tofu`: tells the schemas that are kept here, and finds everything valid. With it `terraform validate`
 * and `terraform test` (whose mocks ask a provider for its schema only) run where no provider can be downloaded.
 *
 * Speaks gRPC over HTTP/2, without encryption, on the loopback interface; Terraform is sent here by TF_REATTACH_PROVIDERS.
 */
import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Body, ProviderSchema } from '../schemas/schema.ts';
import { lengthDelimited, MessageWriter } from './protobuf.ts';
import { schemaResponse } from './schema-message.ts';

/** Arguments of `provider` blocks that are used here. */
const PROVIDER_ARGUMENTS: Readonly<Record<string, Body>> = {
  'hashicorp/aws': { attributes: { region: { type: 'string', use: 'optional' } } },
};
/** Calls that find nothing wrong: their answers are empty. */
const CONTENT = new Set([
  'ValidateProviderConfig',
  'ValidateResourceConfig',
  'ValidateDataResourceConfig',
  'ConfigureProvider',
  'StopProvider',
]);
const UNIMPLEMENTED = '12';

export interface StandInProviders {
  /** Value of TF_REATTACH_PROVIDERS. */
  readonly reattach: string;
  close(): Promise<void>;
}

/** @param registries hosts whose providers these are, besides Terraform's own */
export async function startProviders(
  schemas: readonly ProviderSchema[],
  registries: readonly string[] = ['registry.terraform.io', 'registry.opentofu.org'],
): Promise<StandInProviders> {
  const servers = await Promise.all(schemas.map(startProvider));
  const reattach = Object.fromEntries(
    servers.flatMap(({ provider, port }) =>
      registries.map((registry) => [
        `${registry}/${provider}`,
        {
          Protocol: 'grpc',
          ProtocolVersion: 6,
          Pid: process.pid,
          // Terraform must not end us when it is done.
          Test: true,
          Addr: { Network: 'tcp', String: `127.0.0.1:${port}` },
        },
      ]),
    ),
  );
  return {
    reattach: JSON.stringify(reattach),
    close: async () => {
      await Promise.all(servers.map(({ close }) => close()));
    },
  };
}

async function startProvider(schema: ProviderSchema) {
  const answers = schemaResponse(schema, PROVIDER_ARGUMENTS[schema.provider] ?? { attributes: {} });
  const server: Http2Server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    // Terraform leaves without a word.
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    const method = String(headers[':path']).replace(/^\/tfplugin6\.Provider\//, '');
    stream.on('error', () => {});
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    // Behind the five bytes of gRPC's frame.
    stream.once('end', () => answer(stream, messageOf(method, Buffer.concat(chunks).subarray(5), answers)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    provider: schema.provider,
    port: (server.address() as AddressInfo).port,
    close: async () => {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Undefined for what isn't implemented here. */
function messageOf(method: string, request: Uint8Array, schemas: Uint8Array): Uint8Array | undefined {
  if (method === 'GetProviderSchema') return schemas;
  if (CONTENT.has(method)) return new Uint8Array();
  if (method !== 'UpgradeResourceState') return undefined;
  // OpenTofu asks it of mocked resources, too: a state of this version is as it should be.
  const state = lengthDelimited(lengthDelimited(request, 3) ?? new Uint8Array(), 1) ?? new Uint8Array();
  return new MessageWriter().message(1, new MessageWriter().bytes(2, state)).finish();
}

function answer(stream: ServerHttp2Stream, message: Uint8Array | undefined): void {
  if (stream.closed) return;
  if (message === undefined) {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': UNIMPLEMENTED },
      { endStream: true },
    );
    return;
  }
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([frame, message]));
}
