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
/** Of all of them. */
export const STAGED_BYTES = STAGING_BYTES * STAGING_BUFFERS;

/**
 * Copies bytes into buffers through memory that both sides see, which is faster than `writeBuffer`. There is a fixed number of such buffers: while all of
 * them are on their way, `writeBuffer` has to do.
 */
export class Uploads {
  readonly #gpu: Gpu;
  readonly #all: readonly GPUBuffer[];
  readonly #free: GPUBuffer[];
  readonly #underWay: UnderWay;
  readonly #mappings = new Set<Promise<void>>();

  constructor(gpu: Gpu, underWay: UnderWay) {
    this.#gpu = gpu;
    this.#underWay = underWay;
    this.#all = Array.from({ length: STAGING_BUFFERS }, () =>
      gpu.device.createBuffer({
        label: 'staging',
        size: STAGING_BYTES,
        usage: USAGE.mapWrite | USAGE.copySource,
        mappedAtCreation: true,
      }),
    );
    this.#free = [...this.#all];
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

  close(): void {
    for (const buffer of this.#all) buffer.destroy();
  }
}

/** What was copied to be read. */
export interface Download {
  /** Gives the values to `take`, once they have been computed. To be called after what copies them was submitted. */
  read(take: (values: Float32Array) => void): Promise<void>;
}

/**
 * Buffers that results are read through. Some are kept; where those are in use, or too small, one is made for the occasion.
 */
export class Downloads {
  readonly #device: GPUDevice;
  readonly #underWay: UnderWay;
  readonly #kept: readonly GPUBuffer[];
  /** Those kept, the smallest first. */
  readonly #free: GPUBuffer[];

  /** @param kept bytes of each buffer that is. */
  constructor({ device }: Gpu, underWay: UnderWay, kept: readonly number[]) {
    this.#device = device;
    this.#underWay = underWay;
    this.#kept = kept.toSorted((a, b) => a - b).map((bytes) => this.#create(bytes));
    this.#free = [...this.#kept];
  }

  /** Has `encoder` copy a buffer's first bytes, after what it was told before. */
  copy(encoder: GPUCommandEncoder, source: GPUBuffer, bytes: number): Download {
    const fitting = this.#free.findIndex(({ size }) => size >= bytes);
    const [kept] = fitting === -1 ? [] : this.#free.splice(fitting, 1);
    const staging = kept ?? this.#create(bytes);
    encoder.copyBufferToBuffer(source, 0, staging, 0, bytes);
    return {
      read: async (take) => {
        await this.#underWay.track(staging.mapAsync(1, 0, bytes));
        take(new Float32Array(staging.getMappedRange(0, bytes)));
        if (kept === undefined) {
          staging.destroy();
          return;
        }
        staging.unmap();
        this.#free.push(kept);
        this.#free.sort((a, b) => a.size - b.size);
      },
    };
  }

  close(): void {
    for (const buffer of this.#kept) buffer.destroy();
  }

  #create(size: number): GPUBuffer {
    return this.#device.createBuffer({ label: 'readback', size, usage: USAGE.mapRead | USAGE.copyTarget });
  }
}
