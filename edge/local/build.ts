/**
 * The Worker's bundle, made by wrangler from wrangler.toml: what runs here is what `wrangler deploy` would upload.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
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

/** Longer than a build takes on the slowest machine. */
const SHARED_BUILD_MS = 120_000;

let building: Promise<readonly BundledModule[]> | undefined;

/** A folder that processes share what they build in, and that outlives them. */
const SHARED_BUILD_VARIABLE = 'SIGNPOST_WORKER_BUILD';

/**
 * Bundles the Worker, once a process, or once for all that share a folder: its modules, the entry first. Takes about three seconds, and no network.
 *
 * @throws Problem with wrangler's output when it doesn't build.
 */
export function buildWorker(): Promise<readonly BundledModule[]> {
  const shared = process.env[SHARED_BUILD_VARIABLE];
  building ??= shared === undefined ? buildAlone() : buildOnce(shared);
  return building;
}

async function buildAlone(): Promise<readonly BundledModule[]> {
  const out = await mkdtemp(path.join(tmpdir(), 'signpost-edge-'));
  try {
    return await build(out);
  } finally {
    await rm(out, { recursive: true });
  }
}

/** Whoever comes first builds; the others wait for that. */
async function buildOnce(shared: string): Promise<readonly BundledModule[]> {
  const done = path.join(shared, 'worker');
  const isFirst = await mkdir(path.join(shared, 'building')).then(
    () => true,
    () => false,
  );
  if (isFirst) {
    const out = path.join(shared, 'building', 'worker');
    try {
      const modules = await build(out);
      await rename(out, done);
      return modules;
    } catch (error) {
      // The next one finds out for itself what is wrong.
      await rm(path.join(shared, 'building'), { recursive: true });
      throw error;
    }
  }
  for (const until = Date.now() + SHARED_BUILD_MS; Date.now() < until; ) {
    const modules = await readModules(done).catch(() => undefined);
    if (modules !== undefined) return modules;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return buildAlone();
}

async function build(out: string): Promise<readonly BundledModule[]> {
  await runWrangler(
    ['deploy', '--dry-run', '--config', WRANGLER_TOML, '--outdir', out],
    path.join(out, 'wrangler.log'),
  );
  return readModules(out);
}

async function readModules(folder: string): Promise<readonly BundledModule[]> {
  const files = (await readdir(folder)).filter((name) => TYPES[path.extname(name)] !== undefined);
  const modules = await Promise.all(files.map((name) => readModule(folder, name)));
  return modules.sort((a, b) => Number(b.type === 'ESModule') - Number(a.type === 'ESModule'));
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
