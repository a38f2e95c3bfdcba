/**
 * Devices by name.
 */
import { CpuDevice } from './cpu/cpu-device.ts';
import type { Device, DeviceConfig } from './device.ts';
import { ReferenceDevice } from './reference/reference-device.ts';
import { type Gpu, openGpu } from './webgpu/adapter.ts';
import { defaultTuningFile, tuned } from './webgpu/autotune.ts';
import type { WebGpuOptions } from './webgpu/memory.ts';
import { matrixFormat } from './webgpu/pack.ts';
import { WebGpuDevice } from './webgpu/webgpu-device.ts';

export type DeviceName = 'cpu' | 'reference' | 'webgpu';

/** What only a GPU is asked for. */
export interface GpuSettings {
  /** Whether an adapter that computes on the CPU will do; refused where it is left out. */
  readonly software?: 'allowed' | 'refused';
  /** One that is open, and stays so when the device is closed; one of its own where it is left out. */
  readonly shared?: Gpu;
  /** Bytes of the GPU's memory that may be used; as much as it takes where it is left out. */
  readonly memoryBytes?: number | undefined;
  /** Where measured sizes of kernels are kept; in the user's cache folder where it is left out. */
  readonly tuningFile?: string | undefined;
  /** Bytes of one expert slot; room for two planes a matrix where it is left out. */
  readonly slotBytes?: number | undefined;
}

/** What the model knows of itself that a device can make use of. */
export type DeviceLayout = Pick<WebGpuOptions, 'storage' | 'groups' | 'sections' | 'rows' | 'heads' | 'scratch'>;

/** @throws Problem where there is no such device, or it has too little memory. */
export async function openDevice(
  name: DeviceName,
  config: DeviceConfig,
  layout: DeviceLayout,
  { software = 'refused', shared, memoryBytes, slotBytes, tuningFile }: GpuSettings,
): Promise<Device> {
  switch (name) {
    case 'cpu':
      return new CpuDevice(config);
    case 'reference':
      return new ReferenceDevice(config);
    case 'webgpu': {
      const gpu = shared === undefined ? await openGpu({ software }) : { ...shared, close() {} };
      try {
        const formats = new Set(
          layout.storage.filter((_, param) => config.params[param]?.shape.length === 2).map(matrixFormat),
        );
        // In software a measurement takes longer than it gains.
        const measured = gpu.identity.isSoftware
          ? undefined
          : await tuned(gpu, { formats: [...formats], cache: tuningFile ?? defaultTuningFile() });
        return await WebGpuDevice.open(gpu, config, { ...layout, budgetBytes: memoryBytes, slotBytes, measured });
      } catch (error) {
        gpu.close();
        throw error;
      }
    }
    default:
      return name satisfies never;
  }
}
