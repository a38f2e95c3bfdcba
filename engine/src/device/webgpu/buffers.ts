/**
 * Buffers on the GPU, and how bytes get there.
 */
import type { Gpu } from './adapter.ts';

/** `GPUBufferUsage`, which Dawn has only as a property of what it would make global. */
export const USAGE = { mapRead: 1, mapWrite: 2, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 } as const;

/**
 * Dawn's promises that are under way. A thread mustn't end before they have: Dawn then ends the whole process.
 */
export class UnderWay {
  readonly #promises = new Set<Promise<unknown>>();

  track<T>(promise: Promise<T>): Promise<T> {
    const settled = promise.then(
      () => {},
      () => {},
    );
    this.#promises.add(settled);
    void settled.then(() => this.#promises.delete(settled));
    return promise;
  }

  async settled(): Promise<void> {
    while (this.#promises.size > 0) await Promise.all(this.#promises);
  }
}

const STAGING_BYTES = 4 * 2 ** 20;
const STAGING_BUFFERS = 8;

/**
 * Copies bytes into buffers through memory that both sides see, which is faster than `writeBuffer`. There is a fixed number of such buffers: while all of
 * them are on their way, `writeBuffer` has to do.
 */
export class Uploads {
  readonly #gpu: Gpu;
  readonly #free: GPUBuffer[];
  readonly #underWay: UnderWay;
  readonly #mappings = new Set<Promise<void>>();

  constructor(gpu: Gpu, underWay: UnderWay) {
    this.#gpu = gpu;
    this.#underWay = underWay;
    this.#free = Array.from({ length: STAGING_BUFFERS }, () =>
      gpu.device.createBuffer({
        label: 'staging',
        size: STAGING_BYTES,
        usage: USAGE.mapWrite | USAGE.copySource,
        mappedAtCreation: true,
      }),
    );
  }

  /** @param data whole words; so is `offset`, in bytes. */
  write(target: GPUBuffer, offset: number, data: Uint8Array): void {
    const { queue } = this.#gpu.device;
    for (let from = 0; from < data.byteLength; from += STAGING_BYTES) {
      const piece = data.subarray(from, from + STAGING_BYTES);
      const staging = this.#free.pop();
      if (staging === undefined) queue.writeBuffer(target, offset + from, piece);
      else this.#stage(staging, target, offset + from, piece);
    }
  }

  #stage(staging: GPUBuffer, target: GPUBuffer, offset: number, data: Uint8Array): void {
    const { device } = this.#gpu;
    new Uint8Array(staging.getMappedRange(0, data.byteLength)).set(data);
    staging.unmap();
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(staging, 0, target, offset, data.byteLength);
    device.queue.submit([encoder.finish()]);
    const mapping = this.#underWay.track(staging.mapAsync(2, 0, STAGING_BYTES)).then(
      () => {
        this.#free.push(staging);
      },
      // The device is gone; whoever reads from it is told.
      () => {},
    );
    this.#mappings.add(mapping);
    void mapping.then(() => this.#mappings.delete(mapping));
  }

  /** The same for what is large and written once, such as a base matrix: `fill` makes it in the memory that both sides see, zero at first. */
  writeLarge(target: GPUBuffer, offset: number, bytes: number, fill: (data: Uint8Array) => void): void {
    const { device } = this.#gpu;
    const staging = device.createBuffer({
      label: 'large staging',
      size: bytes,
      usage: USAGE.mapWrite | USAGE.copySource,
      mappedAtCreation: true,
    });
    fill(new Uint8Array(staging.getMappedRange()));
    staging.unmap();
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(staging, 0, target, offset, bytes);
    device.queue.submit([encoder.finish()]);
    // Dawn keeps it until it has been copied.
    staging.destroy();
  }

  /** Fulfilled once what was written is on its way no longer. */
  async settled(): Promise<void> {
    await Promise.all([...this.#mappings, this.#underWay.track(this.#gpu.device.queue.onSubmittedWorkDone())]);
  }
}

/** Buffers that results are read through, each as large as what it was made for. */
export class Downloads {
  readonly #device: GPUDevice;
  readonly #underWay: UnderWay;
  /** By size. */
  readonly #free = new Map<number, GPUBuffer[]>();

  constructor({ device }: Gpu, underWay: UnderWay) {
    this.#device = device;
    this.#underWay = underWay;
  }

  /** Gives the first `bytes` of a buffer to `take`, once everything submitted so far has been computed. */
  async read(source: GPUBuffer, bytes: number, take: (values: Float32Array) => void): Promise<void> {
    const { size } = source;
    const staging = this.#free.get(size)?.pop() ?? this.#create(size);
    const encoder = this.#device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, 0, staging, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    await this.#underWay.track(staging.mapAsync(1, 0, bytes));
    take(new Float32Array(staging.getMappedRange(0, bytes)));
    staging.unmap();
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [staging]);
    else free.push(staging);
  }

  #create(size: number): GPUBuffer {
    return this.#device.createBuffer({ label: 'readback', size, usage: USAGE.mapRead | USAGE.copyTarget });
  }
}
