/**
 * The Worker's bundle, made by wrangler from wrangler.toml: what runs here is what `wrangler deploy` would upload.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Problem } from '@signpost/contracts';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
export const WRANGLER_TOML = path.join(REPOSITORY, 'wrangler.toml');

export interface BundledModule {
  readonly type: 'ESModule' | 'CompiledWasm' | 'Data' | 'Text';
  readonly path: string;
  readonly contents: string | Uint8Array<ArrayBuffer>;
}

/** Module types by ending, as the rules in wrangler.toml have them. */
const TYPES: Readonly<Record<string, BundledModule['type']>> = {
  '.js': 'ESModule',
  '.wasm': 'CompiledWasm',
  '.onnx': 'Data',
  '.yaml': 'Text',
  '.json': 'Text',
};

let building: Promise<readonly BundledModule[]> | undefined;

/**
 * Bundles the Worker, once a process: its modules, the entry first. Takes about three seconds, and no network.
 *
 * @throws Problem with wrangler's output when it doesn't build.
 */
export function buildWorker(): Promise<readonly BundledModule[]> {
  building ??= build();
  return building;
}

async function build(): Promise<readonly BundledModule[]> {
  const out = await mkdtemp(path.join(tmpdir(), 'signpost-edge-'));
  try {
    await runWrangler(
      ['deploy', '--dry-run', '--config', WRANGLER_TOML, '--outdir', out],
      path.join(out, 'wrangler.log'),
    );
    const files = (await readdir(out)).filter((name) => TYPES[path.extname(name)] !== undefined);
    const modules = await Promise.all(files.map((name) => readModule(out, name)));
    return modules.sort((a, b) => Number(b.type === 'ESModule') - Number(a.type === 'ESModule'));
  } finally {
    await rm(out, { recursive: true });
  }
}

async function readModule(folder: string, name: string): Promise<BundledModule> {
  const type = TYPES[path.extname(name)] ?? 'Data';
  const bytes = new Uint8Array(await readFile(path.join(folder, name)));
  const isText = type === 'ESModule' || type === 'Text';
  return { type, path: name, contents: isText ? new TextDecoder().decode(bytes) : bytes };
}

async function runWrangler(args: readonly string[], logFile: string): Promise<void> {
  const manifest = createRequire(import.meta.url).resolve('wrangler/package.json');
  const script = path.join(path.dirname(manifest), 'bin/wrangler.js');
  try {
    await promisify(execFile)(process.execPath, [script, ...args], {
      cwd: REPOSITORY,
      env: {
        ...process.env,
        CI: '1',
        NO_COLOR: '1',
        // No telemetry, no question to the registry for newer versions, no log file left behind.
        WRANGLER_SEND_METRICS: 'false',
        WRANGLER_HIDE_BANNER: 'true',
        WRANGLER_LOG_PATH: logFile,
      },
    });
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string };
    throw new Problem(`the Worker doesn't build:\n${(stderr || stdout || String(error)).trim()}`);
  }
}
