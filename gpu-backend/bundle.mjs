// Makes a region that starts at once, for an image: what `bin/` runs through tsx, as JavaScript in a few files without node_modules, and the addon.
//
//   node gpu-backend/bundle.mjs OUT
//
// OUT/dist/backend.mjs, OUT/dist/lambda.mjs, their threads and the GPU's shaders, and OUT/build/Release/kernels.node, where the kernels look for it from dist/. What can't be
// bundled is in OUT/node_modules. OUT/dist/compile.mjs has Node compile it ahead.
import { copyFile, cp, mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative, sep } from 'node:path';
import { build } from 'esbuild';
import engine from '../engine/package.json' with { type: 'json' };

// Packages that load a binary beside them are copied as they are, with this machine's binary alone.
const NATIVE = ['webgpu'].filter((name) => name in engine.dependencies);

const [out] = process.argv.slice(2);
if (out === undefined) {
  console.error('bundle.mjs: where to? node gpu-backend/bundle.mjs OUT');
  process.exit(1);
}
const src = join(import.meta.dirname, 'src');
const kernels = join(import.meta.dirname, '../kernels');
await build({
  entryPoints: {
    backend: join(src, 'start.ts'),
    lambda: join(src, 'lambda.ts'),
    engine: join(src, 'runner/worker.ts'),
    fetch: join(src, 'experts/fetch-worker.ts'),
    compile: join(src, 'compile.ts'),
  },
  outdir: join(out, 'dist'),
  outExtension: { '.js': '.mjs' },
  bundle: true,
  external: NATIVE,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  // Errors keep their names, and a stack trace its lines: by leaving names as they are, since giving each function its name again takes a third of a thread's start.
  minifyWhitespace: true,
  minifySyntax: true,
  sourcemap: 'linked',
  sourcesContent: false,
  logLevel: 'warning',
  legalComments: 'linked',
  // Some of what is bundled is CommonJS and asks for Node's own modules.
  banner: {
    js: "import{createRequire as $createRequire}from'node:module';const require=$createRequire(import.meta.url);",
  },
  plugins: [
    {
      name: 'threads',
      setup({ onResolve }) {
        onResolve({ filter: /\/threads\.ts$/ }, () => ({ path: join(src, 'threads.bundled.ts') }));
      },
    },
  ],
});
await copyFile(join(kernels, 'src/sha256-worker.mjs'), join(out, 'dist/sha256-worker.mjs'));
await cp(join(import.meta.dirname, '../engine/src/device/webgpu/shaders'), join(out, 'dist/shaders'), {
  recursive: true,
});
await mkdir(join(out, 'build/Release'), { recursive: true });
await copyFile(join(kernels, 'build/Release/kernels.node'), join(out, 'build/Release/kernels.node'));
for (const name of NATIVE) {
  const from = dirname(
    createRequire(join(import.meta.dirname, '../engine/package.json')).resolve(`${name}/package.json`),
  );
  const own = `${process.platform}-${process.arch}`;
  await cp(from, join(out, 'node_modules', name), {
    recursive: true,
    filter(path) {
      const [folder, platform] = relative(from, path).split(sep);
      return folder !== 'build' && (folder !== 'dist' || platform === undefined || platform === own);
    },
  });
}
