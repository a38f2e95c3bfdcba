// Builds the addon. Says what is missing in plain words where node-gyp would print a hundred lines.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const missing = ['g++', 'make', 'python3'].filter((tool) => {
  const wanted = tool === 'g++' ? (process.env.CXX ?? tool) : tool;
  return spawnSync(wanted, ['--version'], { stdio: 'ignore', shell: true }).status !== 0;
});
if (missing.length > 0) {
  console.error(
    `signpost: the kernels can't be built, ${missing.join(', ')} not found. On Debian: apt-get install g++ make python3. Then run npm ci again.`,
  );
  process.exit(1);
}
const script = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
// Node's own headers stand beside most installations; without them node-gyp downloads them.
const prefix = dirname(dirname(process.execPath));
const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? ['--nodedir', prefix] : [];
const { status } = spawnSync(process.execPath, [script, 'rebuild', '--jobs', 'max', ...headers], {
  cwd: import.meta.dirname,
  stdio: 'inherit',
});
process.exit(status ?? 1);
