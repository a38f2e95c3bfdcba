/**
 * Has Node compile an image's modules once, where the image has them, and keep what it made of them in NODE_COMPILE_CACHE: a start then takes a third less CPU time. Node 22.1 and
 * newer; what is kept is for that Node, these paths and this user alone.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { filesIn } from './files-in.ts';
import { startThread } from './threads.ts';

execFileSync(process.execPath, [join(import.meta.dirname, 'backend.mjs'), '--help'], { stdio: 'ignore' });
// Its modules are compiled before it finds that it has been given nothing to do.
for (const name of ['engine', 'fetch'] as const)
  await new Promise((resolve) => startThread(name, undefined).once('error', resolve));
const { NODE_COMPILE_CACHE: cache } = process.env;
if (cache === undefined || filesIn(cache).length === 0) {
  console.error(
    `compile.mjs: Node ${process.version} kept nothing in ${cache ?? 'NODE_COMPILE_CACHE, which is not set'}`,
  );
  process.exit(1);
}
