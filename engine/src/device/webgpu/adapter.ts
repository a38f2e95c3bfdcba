/**
 * The machine's GPU through Dawn: found, checked, opened, and watched until it is gone.
 *
 * Knows no model and no kernel.
 */
import { Problem } from '@signpost/contracts';
import { create } from 'webgpu';
import { z } from 'zod';

/** What kernels may use where the adapter has it; each has a kernel without. */
interface GpuFeatures {
  readonly f16: boolean;
  /** Of unknown size, between the two. */
  readonly subgroups: { readonly min: number; readonly max: number } | undefined;
  readonly timestamps: boolean;
  /** One whose sizes fit matmul_matrices.wgsl. */
  readonly matrixUnit: MatrixUnit | undefined;
}

interface GpuIdentity {
  /** As people know it: `NVIDIA L4`. */
  readonly name: string;
  /** What measurements hold for: adapter and driver. */
  readonly key: string;
  readonly isSoftware: boolean;
}

/** An open GPU. */
export interface Gpu {
  readonly device: GPUDevice;
  readonly identity: GpuIdentity;
  readonly features: GpuFeatures;
  /** Fulfilled with why, once the device can't be used any more, or did what it shouldn't have; never where `close` was what ended it. */
  readonly lost: Promise<string>;
  close(): void;
}

/** (M, K) times (K, N), of F16 to F32. */
interface MatrixUnit {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface GpuOptions {
  /** Whether an adapter that computes on the CPU will do. */
  readonly software: 'allowed' | 'refused';
}

/**
 * F16 on NVIDIA and subgroup matrices stand behind flags in Dawn. Bounds checks are off: every index that comes from outside is checked on the host
 * (see ../check-batch.ts).
 */
const DAWN_FLAGS = [
  'enable-dawn-features=vulkan_enable_f16_on_nvidia,allow_unsafe_apis,disable_robustness,disable_workgroup_init',
];

const WANTED_FEATURES = [
  'shader-f16',
  'subgroups',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
] as const;
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|microsoft basic render|\bwarp\b/i;

/** One for the process, and never let go of: what came of it must not outlive it. */
let instance: GPU | undefined;

/** @throws Problem where there is no adapter, only one in software that isn't allowed, or it can't be opened. */
export async function openGpu({ software }: GpuOptions): Promise<Gpu> {
  instance ??= create(DAWN_FLAGS);
  const adapter = await instance.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null)
    throw new Problem(
      'no GPU was found: Dawn needs a Vulkan 1.1 driver and its loader on Linux (NVIDIA: the container toolkit with NVIDIA_DRIVER_CAPABILITIES=compute,graphics; AMD and Intel: mesa-vulkan-drivers; both: libvulkan1), Metal on macOS, Direct3D 12 on Windows; `vulkaninfo --summary` lists what the loader finds. Or use --device cpu',
    );
  const identity = identityOf(adapter.info);
  if (identity.isSoftware && software === 'refused')
    throw new Problem(
      `the only adapter is ${identity.name}, which computes on the CPU, slower than --device cpu does. Install the GPU's driver, use --device cpu, or allow it with --allow-software-gpu`,
    );
  const device = await deviceOf(adapter, identity);
  let isClosed = false;
  const lost = new Promise<string>((resolve) => {
    void device.lost.then(({ reason, message }) => {
      if (!isClosed) resolve(`${identity.name} was lost (${reason}): ${message}`);
    });
    device.addEventListener('uncapturederror', ({ error }) => {
      if (!isClosed) resolve(`${identity.name} refused work: ${error.message}`);
    });
  });
  return {
    device,
    identity,
    features: featuresOf(device, adapter.info),
    lost,
    close() {
      isClosed = true;
      device.destroy();
    },
  };
}

/** With every limit as high as the adapter allows: base tensors and caches are large. */
async function deviceOf(adapter: GPUAdapter, { name }: GpuIdentity): Promise<GPUDevice> {
  try {
    return await adapter.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[],
      requiredLimits: limitsOf(adapter),
    });
  } catch (cause) {
    throw new Problem(`${name} can't be opened: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** All that an adapter has: what isn't asked for stays at WebGPU's least. */
export function limitsOf({ limits }: GPUAdapter): Record<string, number> {
  const all: Record<string, number> = {};
  for (const limit in limits) {
    const value = Reflect.get(limits, limit);
    if (typeof value === 'number') all[limit] = value;
  }
  return all;
}

function identityOf(info: GPUAdapterInfo): GpuIdentity {
  const { vendor, architecture, device, description } = info;
  const isSoftware = info.isFallbackAdapter || SOFTWARE.test([vendor, architecture, device, description].join(' '));
  const name = [device, description].filter((part) => part !== '').join(', ') || `${vendor} ${architecture}`;
  return { name, key: [vendor, architecture, device, description].join('/'), isSoftware };
}

function featuresOf({ features }: GPUDevice, info: GPUAdapterInfo): GpuFeatures {
  return {
    f16: features.has('shader-f16'),
    subgroups: features.has('subgroups')
      ? { min: info.subgroupMinSize ?? 4, max: info.subgroupMaxSize ?? 128 }
      : undefined,
    timestamps: features.has('timestamp-query'),
    matrixUnit: features.has('chromium-experimental-subgroup-matrix') ? matrixUnitOf(info) : undefined,
  };
}

const unitsSchema = z.array(
  z.object({ componentType: z.string(), resultComponentType: z.string(), M: z.number(), N: z.number(), K: z.number() }),
);

/** Of F16 to F32, and of a size that tiles of 32 rows, 64 outputs and 32 columns are made of. */
function matrixUnitOf(info: GPUAdapterInfo): MatrixUnit | undefined {
  // Not in WebGPU's types yet.
  const units = unitsSchema.safeParse(Array.from(Reflect.get(info, 'subgroupMatrixConfigs') ?? []));
  const fitting = units.data?.find(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'f16' && resultComponentType === 'f32' && 32 % M === 0 && 64 % N === 0 && 32 % K === 0,
  );
  return fitting === undefined ? undefined : { m: fitting.M, n: fitting.N, k: fitting.K };
}
