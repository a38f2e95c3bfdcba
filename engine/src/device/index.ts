/**
 * Devices by name.
 */
import { CpuDevice } from './cpu/cpu-device.ts';
import type { Device, DeviceConfig } from './device.ts';
import { ReferenceDevice } from './reference/reference-device.ts';

export type DeviceName = 'cpu' | 'reference';

export function createDevice(name: DeviceName, config: DeviceConfig): Device {
  switch (name) {
    case 'cpu':
      return new CpuDevice(config);
    case 'reference':
      return new ReferenceDevice(config);
    default:
      return name satisfies never;
  }
}
