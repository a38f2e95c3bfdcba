/**
 * The GPU that tests run on: this machine's, or SwiftShader, which computes on the CPU what a GPU would.
 */
import { existsSync } from 'node:fs';
import { Problem } from '@signpost/contracts';
import { create } from 'webgpu';
import { type Gpu, limitsOf, openGpu } from './adapter.ts';

/** Where Debian's `chromium` has it; the loader is `libvulkan1`. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Points the Vulkan loader at SwiftShader where nothing else was chosen. Before Dawn's first use, on the process's main thread. */
function useSoftwareVulkan(): void {
  const { VK_ICD_FILENAMES, VK_DRIVER_FILES } = process.env;
  if (VK_ICD_FILENAMES === undefined && VK_DRIVER_FILES === undefined && existsSync(SWIFTSHADER))
    process.env.VK_ICD_FILENAMES = SWIFTSHADER;
}

/** Undefined where there is no adapter, for tests to be skipped. @throws Problem there when `SIGNPOST_REQUIRE_GPU` is 1, as in CI. */
export async function openTestGpu(): Promise<Gpu | undefined> {
  useSoftwareVulkan();
  try {
    return await openGpu({ software: 'allowed' });
  } catch (error) {
    if (!(error instanceof Problem) || process.env.SIGNPOST_REQUIRE_GPU === '1') throw error;
    console.warn(`GPU tests are skipped: ${error.message}; apt-get install chromium libvulkan1 gives one in software`);
    return undefined;
  }
}

/** Never let go of, as in adapter.ts. */
let nullInstance: GPU | undefined;

/** Dawn's backend that has every feature and computes nothing: what kernels for adapters other than this machine's compile on. */
export async function openNullGpu(): Promise<{ readonly device: GPUDevice }> {
  nullInstance ??= create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  const adapter = await nullInstance.requestAdapter();
  if (adapter === null) throw new Error('Dawn was built without its null backend');
  const requiredFeatures = [...adapter.features] as GPUFeatureName[];
  return { device: await adapter.requestDevice({ requiredFeatures, requiredLimits: limitsOf(adapter) }) };
}

/** Dawn's module, for processes that a test starts. */
export const dawnUrl = import.meta.resolve('webgpu');
