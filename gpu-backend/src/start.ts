/**
 * Where an image's region starts: the disk is set to work on the base before anything else, since it takes longest, and the modules are read beside it.
 */
import { readCheckpointAhead } from '@signpost/engine/read-ahead';
import { likelyBase } from './base/likely-base.ts';

const base = likelyBase(process.argv.slice(2), process.env);
if (base !== undefined) readCheckpointAhead(base);
await import('./main.ts');
