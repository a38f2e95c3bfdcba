// Hashes parts of files in a thread of its own, for machines without instructions that the addon uses. Reads, rather than maps: hashed pages are not kept.
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const buffer = new Uint8Array(1024 * 1024);
const digests = workerData.map(({ path, offset, bytes }) => {
  const file = openSync(path, 'r');
  try {
    const hash = createHash('sha256');
    for (let done = 0; done < bytes; ) {
      const read = readSync(file, buffer, 0, Math.min(buffer.length, bytes - done), offset + done);
      if (read === 0) throw new Error(`${path} was cut short while it was read`);
      hash.update(buffer.subarray(0, read));
      done += read;
    }
    return hash.digest('hex');
  } finally {
    closeSync(file);
  }
});
parentPort.postMessage(digests);
