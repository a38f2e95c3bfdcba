/**
 * A list of ops as dispatches: pipelines, bind groups and constants made once, replayed for every step that calls the same ops.
 */
import type { Gpu } from './adapter.ts';
import { USAGE } from './buffers.ts';
import type { Along, Draft } from './plan-builder.ts';
import type { Shaders } from './shader.ts';
import type { View } from './step.ts';

interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly along: Along;
  readonly y: number;
  readonly z: number;
}

/** What plans are made with. */
export interface PlanMakers {
  readonly gpu: Gpu;
  readonly shaders: Shaders;
  /** Stands where a kernel binds what a dispatch doesn't use. */
  readonly unused: (binding: number) => GPUBuffer;
}

/** Of one dispatch: its kernel's `params`. Offsets of uniforms are whole multiples. */
export const CONSTANT_BYTES = 256;
const MOST_Y = 65_535;

/** Where a plan's constants are. */
interface ConstantsPlace {
  readonly buffer: GPUBuffer;
  /** Bytes. */
  readonly offset: number;
}

export class Plan {
  readonly #dispatches: readonly Dispatch[];

  constructor(drafts: readonly Draft[], { buffer, offset }: ConstantsPlace, { gpu, shaders, unused }: PlanMakers) {
    const { device } = gpu;
    const data = new DataView(new ArrayBuffer(drafts.length * CONSTANT_BYTES));
    this.#dispatches = drafts.map(({ kernel: [name, specialised], buffers, words, along, y, z }, index) => {
      const { pipeline, layout, bindings } = shaders.kernel(name, specialised);
      const begin = index * CONSTANT_BYTES;
      for (const [i, word] of words.entries()) {
        if (typeof word === 'number') data.setUint32(begin + i * 4, word, true);
        else data.setFloat32(begin + i * 4, word.float, true);
      }
      const entries = bindings.map(({ binding, type }) => ({
        binding,
        resource:
          type === 'uniform'
            ? { buffer, offset: offset + begin, size: CONSTANT_BYTES }
            : { buffer: buffers.get(binding) ?? unused(binding) },
      }));
      const bindGroup = device.createBindGroup({ layout, entries });
      return { pipeline, bindGroup, along, y: Math.min(y, MOST_Y), z: z * Math.ceil(y / MOST_Y) };
    });
    device.queue.writeBuffer(buffer, offset, data.buffer);
  }

  /** @param view of the step, that the plan's ops act on. */
  encode(pass: GPUComputePassEncoder, view: View): void {
    let pipeline: GPUComputePipeline | undefined;
    for (const dispatch of this.#dispatches) {
      if (dispatch.pipeline !== pipeline) {
        pipeline = dispatch.pipeline;
        pass.setPipeline(pipeline);
      }
      pass.setBindGroup(0, dispatch.bindGroup);
      pass.dispatchWorkgroups(groupsAlong(dispatch.along, view), dispatch.y, dispatch.z);
    }
  }
}

function groupsAlong(along: Along, view: View): number {
  switch (along.kind) {
    case 'rows':
      return Math.ceil(view.rows / along.perGroup);
    case 'tiles':
      return view.tiles;
    case 'queries':
      return view.queryTiles;
    default:
      return along satisfies never;
  }
}

/** Beyond so many, passing plans that were not used for longest go. */
const MOST_PASSING = 256;

interface PassingPlan {
  readonly plan: Plan;
  readonly constants: GPUBuffer;
}

/**
 * Plans by what they compute. Those made at the start are kept, their constants in one buffer of a size known before; others come and go: of steps that
 * wait for an expert between two layers, and of logits that became wider.
 */
export class Plans {
  readonly #makers: PlanMakers;
  readonly #constants: GPUBuffer;
  readonly #kept = new Map<string, Plan>();
  readonly #passing = new Map<string, PassingPlan>();
  #taken = 0;

  /** @param dispatches that there is room for, of plans that are kept. */
  constructor(makers: PlanMakers, dispatches: number) {
    this.#makers = makers;
    this.#constants = this.#buffer(dispatches);
  }

  /** @param draft what the plan is made of where there is none yet. */
  of(key: string, draft: () => readonly Draft[]): Plan {
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const found = this.#passing.get(key) ?? this.#made(draft());
    // The last in the map is the one used last.
    this.#passing.delete(key);
    this.#passing.set(key, found);
    const [oldest] = this.#passing;
    if (this.#passing.size > MOST_PASSING && oldest !== undefined) {
      this.#passing.delete(oldest[0]);
      oldest[1].constants.destroy();
    }
    return found.plan;
  }

  keep(key: string, drafts: readonly Draft[]): void {
    const offset = this.#taken * CONSTANT_BYTES;
    if (offset + drafts.length * CONSTANT_BYTES > this.#constants.size)
      throw new RangeError(`there is no room for the constants of ${drafts.length} more dispatches`);
    this.#taken += drafts.length;
    this.#kept.set(key, new Plan(drafts, { buffer: this.#constants, offset }, this.#makers));
  }

  close(): void {
    this.#constants.destroy();
    for (const { constants } of this.#passing.values()) constants.destroy();
    this.#passing.clear();
    this.#kept.clear();
  }

  #made(drafts: readonly Draft[]): PassingPlan {
    const constants = this.#buffer(Math.max(1, drafts.length));
    return { constants, plan: new Plan(drafts, { buffer: constants, offset: 0 }, this.#makers) };
  }

  #buffer(dispatches: number): GPUBuffer {
    return this.#makers.gpu.device.createBuffer({
      label: 'constants of plans',
      size: dispatches * CONSTANT_BYTES,
      usage: USAGE.uniform | USAGE.copyTarget,
    });
  }
}
