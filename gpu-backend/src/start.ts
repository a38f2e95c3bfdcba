/**
 * Where an image's region starts: the disk and a thread that hashes are set to work on the base before anything else, since they take longest, and the modules are read beside it.
 */
import { readCheckpointAhead } from '@signpost/engine/ahead';
import { likelyBase } from './base/likely-base.ts';
import { filesIn } from './files-in.ts';

const base = likelyBase(process.argv.slice(2), process.env);
if (base !== undefined) {
  const { NODE_COMPILE_CACHE: compiled } = process.env;
  readCheckpointAhead(base, [
    process.execPath,
    ...filesIn(import.meta.dirname).filter((path) => path.endsWith('.mjs')),
    ...(compiled === undefined ? [] : filesIn(compiled)),
  ]);
}
await import('./main.ts');
