#!/usr/bin/env node
// Entry of `npm start`: says what is missing in plain words before anything that needs it is loaded.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const MINIMUM = [20, 19];
const root = join(import.meta.dirname ?? '.', '../..');

function stop(message) {
  console.error(`signpost: ${message}`);
  process.exit(1);
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  stop(
    `Node ${MINIMUM.join('.')} or newer is needed, this is ${process.versions.node}. Install it from https://nodejs.org and run npm ci again.`,
  );
}
if (!existsSync(join(root, 'node_modules', 'tsx'))) stop('the dependencies are not installed. Run: npm ci');
if (!existsSync(join(root, 'kernels/build/Release/kernels.node'))) {
  stop(
    'the kernels are not built. They need g++, make and python3 (Debian: apt-get install g++ make python3). Then run: npm ci',
  );
}

const tsx = createRequire(import.meta.url).resolve('tsx');
const child = spawn(
  process.execPath,
  ['--import', tsx, join(root, 'demo/src/start-cli.ts'), ...process.argv.slice(2)],
  { stdio: 'inherit' },
);
// A terminal's Ctrl-C reaches the child by itself; other senders reach only this process.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal === null ? (code ?? 1) : 1));
