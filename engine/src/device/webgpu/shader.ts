/**
 * Kernels: their WGSL put together from `shaders/`, specialised, and compiled once.
 *
 * What a kernel binds is read off its source, so that the two can't disagree.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from './adapter.ts';

/** What each kernel is made of. `reduce` is the variant for the adapter's features, `kv` the one for the cache's format. */
const KERNELS = {
  embed: ['step', 'matrix', 'embed'],
  norm: ['step', 'vectors', 'reduce', 'norm'],
  matvec: ['step', 'vectors', 'matrix', 'linear', 'reduce', 'matvec'],
  matmul: ['step', 'vectors', 'matrix', 'linear', 'tile', 'element_f32', 'matmul'],
  matmul_f16: ['step', 'vectors', 'matrix', 'linear', 'tile', 'element_f16', 'matmul'],
  matmul_matrices: ['step', 'vectors', 'matrix', 'linear', 'tile', 'matmul_matrices'],
  heads: ['step', 'vectors', 'kv', 'cache', 'reduce', 'heads'],
  attention: ['step', 'kv', 'cache', 'attention'],
  attention_join: ['attention_join'],
  elementwise: ['step', 'elementwise'],
  added_rows: ['step', 'reduce', 'added_rows'],
  sample_adjust: ['sample', 'lanes', 'sample_adjust'],
  sample_cut: ['sample', 'sample_seen', 'sample_cut'],
  sample_draw: ['sample', 'sample_seen', 'gumbel', 'lanes', 'sample_draw'],
  sample_choose: ['sample', 'lanes', 'sample_choose'],
} as const;
export type KernelName = keyof typeof KERNELS;
export const KERNEL_NAMES = Object.keys(KERNELS) as KernelName[];

export interface Variants {
  /** How lanes sum: over subgroups of whatever size, or through the workgroup's memory. */
  readonly reduce: 'subgroups' | 'workgroup';
  readonly kv: 'f16' | 'f32';
}

export interface Specialisation {
  /** Pipeline constants. */
  readonly overrides?: Readonly<Record<string, number>>;
  /** Sizes of arrays in a lane's own memory, which WGSL wants to know when it compiles. */
  readonly sizes?: Readonly<Record<string, number>>;
}

/** A kernel by name, and what it is specialised by. */
export type SpecialisedKernel = readonly [name: KernelName, specialised: Specialisation];

export interface Kernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly bindings: readonly Binding[];
}

interface Binding {
  readonly binding: number;
  readonly type: GPUBufferBindingType;
}

const ofDevices = new WeakMap<GPUDevice, Map<string, Shaders>>();

export class Shaders {
  readonly #device: GPUDevice;
  readonly #variants: Variants;
  readonly #kernels = new Map<string, Kernel>();
  readonly #modules = new Map<string, GPUShaderModule>();

  private constructor({ device }: Pick<Gpu, 'device'>, variants: Variants) {
    this.#device = device;
    this.#variants = variants;
  }

  /** Compiled kernels are shared by all who use a GPU. */
  static of(gpu: Pick<Gpu, 'device'>, variants: Variants): Shaders {
    const all = ofDevices.get(gpu.device) ?? new Map<string, Shaders>();
    ofDevices.set(gpu.device, all);
    const key = `${variants.reduce} ${variants.kv}`;
    const shaders = all.get(key) ?? new Shaders(gpu, variants);
    all.set(key, shaders);
    return shaders;
  }

  /** Compiled by now, where `compile` wasn't told of it. */
  kernel(...[name, specialised]: SpecialisedKernel): Kernel {
    const key = keyOf(name, specialised);
    const found = this.#kernels.get(key);
    if (found !== undefined) return found;
    const { descriptor, layout, bindings } = this.#prepared(key, name, specialised);
    const kernel = { pipeline: this.#device.createComputePipeline(descriptor), layout, bindings };
    this.#kernels.set(key, kernel);
    return kernel;
  }

  /**
   * Compiles kernels side by side, in Dawn's own threads.
   *
   * @param onProgress told after each how many of those that weren't there before are.
   */
  async compile(
    kernels: readonly SpecialisedKernel[],
    onProgress?: (compiled: number, total: number) => void,
  ): Promise<void> {
    const missing = new Map(kernels.map((kernel) => [keyOf(...kernel), kernel]));
    for (const key of this.#kernels.keys()) missing.delete(key);
    let compiled = 0;
    await Promise.all(
      Array.from(missing, async ([key, [name, specialised]]) => {
        const { descriptor, layout, bindings } = this.#prepared(key, name, specialised);
        const pipeline = await this.#device.createComputePipelineAsync(descriptor);
        this.#kernels.set(key, { pipeline, layout, bindings });
        onProgress?.(++compiled, missing.size);
      }),
    );
  }

  #prepared(key: string, name: KernelName, { overrides = {}, sizes = {} }: Specialisation) {
    const code = shaderSource(name, this.#variants, sizes);
    let module = this.#modules.get(code);
    if (module === undefined) {
      module = this.#device.createShaderModule({ label: name, code });
      this.#modules.set(code, module);
    }
    const bindings = bindingsOf(code);
    const layout = this.#device.createBindGroupLayout({
      entries: bindings.map(({ binding, type }) => ({ binding, visibility: COMPUTE_STAGE, buffer: { type } })),
    });
    const descriptor: GPUComputePipelineDescriptor = {
      label: key,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main', constants: overrides },
    };
    return { descriptor, layout, bindings };
  }
}

function keyOf(...[name, { overrides = {}, sizes = {} }]: SpecialisedKernel): string {
  return `${name} ${JSON.stringify(overrides)} ${JSON.stringify(sizes)}`;
}

/** `GPUShaderStage.COMPUTE`. */
const COMPUTE_STAGE = 4;

/** Of kernels that don't do without. */
const ENABLES: Partial<Record<KernelName, string>> = {
  matmul_f16: 'enable f16;\n',
  matmul_matrices: 'enable f16;\nenable subgroups;\nenable chromium_experimental_subgroup_matrix;\n',
};

/** A kernel's whole WGSL. */
export function shaderSource(
  name: KernelName,
  variants: Variants,
  sizes: Readonly<Record<string, number>> = {},
): string {
  const parts: readonly string[] = KERNELS[name];
  const usesSubgroups = parts.some((part) => part === 'reduce' || part === 'lanes') && variants.reduce === 'subgroups';
  const enables = ENABLES[name] ?? (usesSubgroups ? 'enable subgroups;\n' : '');
  const files = parts.map((part) => {
    if (part === 'lanes') return `lanes_${variants.reduce}`;
    return part === 'reduce' || part === 'kv' ? `${part}_${variants[part]}` : part;
  });
  let code = enables + files.map(sourceFile).join('\n');
  for (const [size, value] of Object.entries(sizes)) {
    const line = new RegExp(`^const ${size} = \\d+u; // set by`, 'm');
    if (!line.test(code)) throw new Error(`${name} has no size ${size}`);
    code = code.replace(line, `const ${size} = ${value}u; // set by`);
  }
  return code;
}

const files = new Map<string, string>();

function sourceFile(name: string): string {
  let text = files.get(name);
  if (text === undefined) {
    text = readFileSync(join(import.meta.dirname, 'shaders', `${name}.wgsl`), 'utf8');
    files.set(name, text);
  }
  return text;
}

function bindingsOf(code: string): Binding[] {
  const declarations = code.matchAll(/@group\(0\) @binding\((\d+)\) var<(\w+)(?:, (\w+))?>/g);
  return [...declarations].map(([, binding, space, access]) => ({
    binding: Number(binding),
    type: space === 'uniform' ? 'uniform' : access === 'read_write' ? 'storage' : 'read-only-storage',
  }));
}
