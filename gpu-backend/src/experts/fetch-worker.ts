/**
 * The thread that reads experts: binds the reader to the thread's port. Thin; see fetch-thread.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { ExpertVersion } from '@signpost/contracts';
import { type IntegrityCheck, openStore } from '@signpost/store';
import { type ExpertReader, folderReader, storeReader } from './expert-reader.ts';
import type { FetchOptions, FromFetchThread, Place, ToFetchThread } from './fetch-thread.ts';

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker thread');
const { store, disk } = workerData as FetchOptions;
const readers: Record<Place, ExpertReader | undefined> = {
  store: storeReader(openStore(store)),
  disk: disk === undefined ? undefined : folderReader(openStore(disk)),
};
const reads = new Map<number, AbortController>();

function send(message: FromFetchThread, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer);
}

async function read(id: number, place: Place, version: ExpertVersion): Promise<void> {
  const abort = new AbortController();
  reads.set(id, abort);
  try {
    const onChunk = (chunk: Uint8Array, start: number) => {
      // Handed over rather than copied; what is part of a larger buffer can't be.
      const data = chunk.byteLength === chunk.buffer.byteLength ? chunk : chunk.slice();
      send({ kind: 'chunk', id, data, start }, [data.buffer as ArrayBuffer]);
    };
    const reader = readers[place];
    if (reader === undefined) throw new Error(`there is no ${place} to read ${version.digest} from`);
    const onMismatch = (check: IntegrityCheck) => send({ kind: 'mismatch', id, check });
    await reader(version, { signal: abort.signal, onChunk, onMismatch });
    send({ kind: 'done', id });
  } catch (error) {
    send({ kind: 'failed', id, message: error instanceof Error ? error.message : String(error) });
  } finally {
    reads.delete(id);
  }
}

port.on('message', (message: ToFetchThread) => {
  if (message.kind === 'read') void read(message.id, message.place, message.version);
  else reads.get(message.id)?.abort(new Error('nobody waits for it any more'));
});
