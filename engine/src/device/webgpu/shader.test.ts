/**
 * Every kernel in every variant is WGSL that Dawn takes.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { KERNEL_NAMES, Shaders, shaderSource } from './shader.ts';
import { openNullGpu, openTestGpu } from './testing.ts';
import { matmulBytes } from './tuning.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

const VARIANTS = (['subgroups', 'workgroup'] as const).flatMap((reduce) =>
  (['f16', 'f32'] as const).map((kv) => ({ reduce, kv })),
);

/** Dawn's backend without a GPU: it has every feature, and computes nothing. */
const { device: everything } = await openNullGpu();
afterAll(() => everything.destroy());

describe.each(KERNEL_NAMES)('%s', (name) => {
  it.each(VARIANTS)(
    'is what Dawn takes where every feature is there, with sums through $reduce and a cache in $kv',
    async (variants) => {
      const code = shaderSource(name, variants);
      const { messages } = await everything.createShaderModule({ code }).getCompilationInfo();
      const errors = messages.filter(({ type }) => type === 'error');
      expect(errors.map(({ message, lineNum }) => `${lineNum}: ${message}`)).toEqual([]);
    },
  );
});

const NEED_MORE = ['matmul_f16', 'matmul_matrices'];
describe.skipIf(gpu === undefined).each(KERNEL_NAMES.filter((name) => !NEED_MORE.includes(name)))('%s', (name) => {
  it.each(VARIANTS)('compiles on this adapter with sums through $reduce and a cache in $kv', async (variants) => {
    if (gpu === undefined) return;
    if (variants.reduce === 'subgroups' && gpu.features.subgroups === undefined) return;
    const code = shaderSource(name, variants);
    const { messages } = await gpu.device.createShaderModule({ code }).getCompilationInfo();
    expect(messages.map(({ message, lineNum }) => `${lineNum}: ${message}`)).toEqual([]);
  });
});

describe('the matmul', () => {
  const shapes = (['matmul', 'matmul_f16'] as const)
    .flatMap((kernel) => [8, 16, 32].map((outLanes) => ({ kernel, outLanes })))
    .flatMap((shape) => [8, 16].map((rowLanes) => ({ ...shape, rowLanes })))
    .flatMap((shape) => [1, 2].map((groups) => ({ ...shape, groups })));
  const { maxComputeInvocationsPerWorkgroup: lanes, maxComputeWorkgroupStorageSize: bytes } = everything.limits;

  it.each(shapes)(
    '$kernel of $outLanes by $rowLanes lanes, $groups groups, is taken where it fits, and only there',
    async (shape) => {
      const shaders = Shaders.of({ device: everything }, { reduce: 'workgroup', kv: 'f32' });
      const { kernel, outLanes, rowLanes, groups } = shape;
      const overrides = { FORMAT: 4, OUT_LANES: outLanes, ROW_LANES: rowLanes, GROUPS: groups };
      const compiling = shaders.compile([[kernel, { overrides }]]);
      if (outLanes * rowLanes <= lanes && matmulBytes(shape) <= bytes) await compiling;
      else await expect(compiling).rejects.toThrow(/workgroup/i);
    },
  );
});

describe('a kernel', () => {
  it('has the sizes that it is given, and no others', () => {
    const variants = { reduce: 'workgroup', kv: 'f32' } as const;
    expect(shaderSource('attention', variants, { MOST_QUADS: 3 })).toContain('const MOST_QUADS = 3u;');
    expect(() => shaderSource('attention', variants, { MOST: 3 })).toThrow(/no size MOST/);
  });
});
