/**
 * Where an image's region starts: the disk and a thread that hashes are set to work on the base before anything else, since they take longest, and the modules are read beside it.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readCheckpointAhead } from '@signpost/engine/ahead';
import { likelyBase } from './base/likely-base.ts';

const base = likelyBase(process.argv.slice(2), process.env);
if (base !== undefined) {
  const modules = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.mjs'));
  readCheckpointAhead(base, [process.execPath, ...modules.map((name) => join(import.meta.dirname, name))]);
}
await import('./main.ts');
