/**
 * Images, as far as they can be known without building one: the Dockerfiles' text, and what the last stage consists of, run on its own.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import module from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { DockerfileParser } from 'dockerfile-ast';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lintDockerfile } from './dockerfile.ts';

const ROOT = join(import.meta.dirname, '../..');
const execute = promisify(execFile);

const FILES = ['gpu-backend/Dockerfile', 'gpu-backend/Dockerfile.lambda'];

describe.each(FILES)('%s', (path) => {
  it('has nothing to complain about', async () => {
    expect(lintDockerfile(await readFile(join(ROOT, path), 'utf8'))).toEqual([]);
  });

  it('is the same build as the other', async () => {
    const build = async (name: string) => {
      const text = await readFile(join(ROOT, name), 'utf8');
      const [first, last] = [...text.matchAll(/^FROM /gm)].map(({ index }) => index);
      return text
        .slice(first, last)
        .replace(/^#.*\n/gm, '')
        .trim();
    };
    expect(await build(path)).toBe(await build(FILES[0] ?? ''));
  });
});

it('modules are compiled by the user that runs them', async () => {
  const parsed = DockerfileParser.parse(await readFile(join(ROOT, 'gpu-backend/Dockerfile'), 'utf8'));
  const argumentsOf = (name: string) =>
    parsed
      .getInstructions()
      .filter((one) => one.getKeyword() === name)
      .map((one) => one.getArgumentsContent() ?? '');
  const [uid, gid] = argumentsOf('USER').at(-1)?.split(':') ?? [];
  const compiling = argumentsOf('RUN').find((text) => text.includes('dist/compile.mjs'));
  expect(compiling).toContain(`--owner=${uid} compiled`);
  expect(compiling).toContain(`setpriv --reuid=${uid} --regid=${gid} `);
});

it.each([
  ['FROM node:latest\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n', /base node:latest is not pinned/],
  ['FROM node:22\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n', /base node:22 is not pinned/],
  ['FROM node:22.1.0\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n', /USER is ""/],
  ['FROM node:22.1.0\nUSER root\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n', /USER is "root"/],
  ['FROM node:22.1.0\nUSER 1000\nENTRYPOINT ["node"]\n', /no HEALTHCHECK/],
  ['FROM node:22.1.0\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT node\n', /no ENTRYPOINT in JSON/],
  [
    'FROM node:22.1.0\nENV SIGNPOST_ADMIN_KEY=a\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n',
    /2: SIGNPOST_ADMIN_KEY looks like a secret/,
  ],
  [
    'FROM node:22.1.0\nARG NPM_TOKEN\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n',
    /2: NPM_TOKEN looks like a secret/,
  ],
  ['FROM node:22.1.0\nCOPPY a b\nUSER 1000\nHEALTHCHECK NONE\nENTRYPOINT ["node"]\n', /2: .*COPPY/],
])('the lint finds what is wrong: %j', (text, problem) => {
  expect(lintDockerfile(text).join('\n')).toMatch(problem);
});

it('npm and what it leaves are pinned to the Node that they are checked with in CI, or a newer one', async () => {
  const { engines } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { engines: { node: string } };
  const [, least] = /^>=(\d+)/.exec(engines.node) ?? [];
  for (const path of FILES) {
    const [, major] = /NODE_IMAGE=node:(\d+)\./.exec(await readFile(join(ROOT, path), 'utf8')) ?? [];
    expect(Number(major)).toBeGreaterThanOrEqual(Number(least));
  }
});

/** Of a folder, and those in it: the files' names, and their bytes in all. */
async function contentOf(dir: string): Promise<{ names: string[]; bytes: number }> {
  const files = (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size));
  return { names: files.map(({ name }) => name), bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

describe('what the last stage consists of', () => {
  let out: string;
  beforeAll(async () => {
    out = await mkdtemp(join(tmpdir(), 'signpost-image-'));
    await execute(process.execPath, [join(ROOT, 'gpu-backend/bundle.mjs'), out]);
    // As the Dockerfile copies them beside it.
    await cp(join(ROOT, 'LICENSE'), join(out, 'LICENSE'));
  });
  afterAll(() => rm(out, { recursive: true, force: true }));

  it('is small, and has neither tests nor models', async () => {
    const { names, bytes } = await contentOf(out);
    expect(bytes).toBeLessThan(40e6);
    expect(names).toEqual(
      expect.arrayContaining(['backend.mjs', 'lambda.mjs', 'engine.mjs', 'fetch.mjs', 'kernels.node']),
    );
    expect(names.filter((name) => /test|safetensors|fixture/.test(name))).toEqual([]);
  });

  // Node 22.1 is the first that can.
  it('is compiled where the image has it', async () => {
    const cache = join(out, 'compiled');
    const compiled = execute(process.execPath, [join(out, 'dist/compile.mjs')], {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: cache },
    });
    if (!('enableCompileCache' in module)) return expect(compiled).rejects.toThrow(/kept nothing in/);
    await compiled;
    expect((await contentOf(cache)).bytes).toBeGreaterThan(500_000);
  });

  it('answers requests without anything else of the repository, and with the environment of the Dockerfile', async () => {
    const text = await readFile(join(ROOT, 'gpu-backend/Dockerfile'), 'utf8');
    const env = Object.fromEntries(
      DockerfileParser.parse(text)
        .getENVs()
        .flatMap((one) => one.getProperties())
        .map((property) => [property.getName(), property.getValue() ?? '']),
    );
    const cache = join(out, 'cache');
    // Not a store with a base: a folder, the first of what --base may be.
    const child = spawn(process.execPath, [join(out, 'dist/backend.mjs')], {
      cwd: out,
      env: {
        ...env,
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: join(out, 'compiled'),
        SIGNPOST_HOST: '127.0.0.1',
        SIGNPOST_PORT: '0',
        SIGNPOST_BASE: join(ROOT, 'models/demo/base'),
        SIGNPOST_DISK_CACHE: cache,
        SIGNPOST_STORE: join(out, 'store'),
        SIGNPOST_REGION: 'image',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let url = '';
      for await (const line of createInterface(child.stdout)) {
        const told = JSON.parse(line) as { msg: string; url: string };
        if (told.msg === 'ready') {
          url = told.url;
          break;
        }
      }
      const response = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 2 }),
      });
      expect(response.status).toBe(200);
      // Paging has a thread of its own, which reads the store.
      const expert = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'math', prompt: '1', max_tokens: 1 }),
      });
      expect(await expert.json()).toMatchObject({ error: { code: 'model_not_found' } });
    } finally {
      child.kill();
    }
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).toBe(0);
  });
});

/** The names that .dockerignore lets in, which is an allow list. */
it('what is built from isn’t ignored, and nothing else is sent', async () => {
  const lines = (await readFile(join(ROOT, '.dockerignore'), 'utf8'))
    .split('\n')
    .filter((line) => !/^(#|$)/.test(line));
  expect(lines[0]).toBe('*');
  const allowed = lines.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
  for (const path of allowed) await stat(join(ROOT, path));
  const manifests = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { workspaces: string[] };
  for (const workspace of manifests.workspaces)
    expect(
      allowed.some((path) => path === workspace || path === `${workspace}/package.json`),
      workspace,
    ).toBe(true);
  expect(allowed.filter((path) => /models|docs|routing|wrangler|\.ci|\.tf/.test(path))).toEqual([]);
});
