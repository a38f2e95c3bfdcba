/**
 * Builds the console: `index.html`, one script and one style sheet, into `build/console/`, from where the Worker serves them.
 *
 * Its output follows from its source alone, and what is there already is left alone: builds at the same time don't disturb each other, nor whoever serves the files.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'esbuild';

const SOURCE = path.join(import.meta.dirname, 'src');
/** What wrangler.toml has as the assets' directory. */
export const CONSOLE_BUILD = path.join(import.meta.dirname, 'build');

/** The files' contents by their paths within the build. */
export async function bundleConsole(): Promise<ReadonlyMap<string, Uint8Array>> {
  const { outputFiles } = await build({
    entryPoints: { console: path.join(SOURCE, 'main.tsx') },
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['es2022', 'chrome111', 'firefox113', 'safari16.4'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    entryNames: '[name]-[hash]',
    outdir: path.join(CONSOLE_BUILD, 'console'),
    write: false,
    logLevel: 'silent',
  });
  const files = new Map(outputFiles.map(({ path: file, contents }) => [path.relative(CONSOLE_BUILD, file), contents]));
  const named = (ending: string) => {
    const name = [...files.keys()].find((file) => file.endsWith(ending));
    if (name === undefined) throw new Error(`the console's build has no ${ending} file`);
    return path.basename(name);
  };
  const page = (await readFile(path.join(SOURCE, 'index.html'), 'utf8'))
    .replace('console.css', named('.css'))
    .replace('console.js', named('.js'));
  files.set('console/index.html', new TextEncoder().encode(page));
  return files;
}

/** Writes what has changed, and takes away what is no part of it any more. */
async function writeConsole(): Promise<void> {
  const files = await bundleConsole();
  const folder = path.join(CONSOLE_BUILD, 'console');
  await mkdir(folder, { recursive: true });
  for (const [name, contents] of files) {
    const file = path.join(CONSOLE_BUILD, name);
    if (await holds(file, contents)) continue;
    // Whole or not at all. Not in the folder itself, all of which is served.
    const draft = path.join(import.meta.dirname, `${randomUUID()}.tmp`);
    await writeFile(draft, contents);
    await rename(draft, file);
  }
  for (const name of await readdir(folder))
    if (!files.has(`console/${name}`)) await rm(path.join(folder, name), { force: true });
}

async function holds(file: string, contents: Uint8Array): Promise<boolean> {
  try {
    return Buffer.compare(await readFile(file), contents) === 0;
  } catch {
    return false;
  }
}

if (import.meta.filename === process.argv[1]) await writeConsole();
