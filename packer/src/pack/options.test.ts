/**
 * What pack makes of its options: policies, kinds of scale, INT8, planes by budget, calibration.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elementCount, parseSafetensors } from '@signpost/contracts';
import {
  type Checkpoint,
  isLinearWeight,
  Model,
  modelParams,
  openCheckpoint,
  openDelta,
  parseModelConfig,
  Session,
} from '@signpost/engine';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { sequences } from '../calibrate/fixtures.ts';
import { ErrorProbe } from '../calibrate/probe.ts';
import { allocatePlanes } from './budget.ts';
import { type PackOptions, type PackReport, pack } from './pack.ts';
import { type PlannedMatrix, tensorsOf } from './plan.ts';
import { POLICIES, treatmentOf } from './policy.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');

let dir: string;
let base: Checkpoint;
let tuned: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-pack-options-'));
  base = await openCheckpoint(join(GOLDEN, 'base'));
  tuned = await openCheckpoint(join(GOLDEN, 'a'));
});
afterAll(() => rm(dir, { recursive: true }));

let files = 0;
function packed(options: Partial<PackOptions> = {}, from = tuned): Promise<PackReport> {
  return pack(base, from, { name: 'a', out: join(dir, `${files++}.delta.safetensors`), ...options });
}

async function tensorNames(path: string): Promise<string[]> {
  return parseSafetensors(new Uint8Array(await readFile(path)), path).tensors.map(({ name }) => name);
}

const meanError = ({ errors }: PackReport) =>
  Object.values(errors).reduce((sum, error) => sum + error, 0) / Object.values(errors).length;

describe('policies', () => {
  it('decide by name which matrices are 1-bit, exact, or left to the base', async () => {
    const kinds = async (policy: keyof typeof POLICIES) => {
      const names = await tensorNames((await packed({ policy: POLICIES[policy] ?? [] })).out);
      const has = (module: RegExp, part: RegExp) => names.some((name) => module.test(name) && part.test(name));
      return [/self_attn/, /mlp/].map((module) =>
        has(module, /\.sign\.0$/) ? '1bit' : has(module, /\.delta$/) ? 'exact' : 'none',
      );
    };
    expect(await kinds('all-linear')).toEqual(['1bit', '1bit']);
    expect(await kinds('attention')).toEqual(['1bit', 'none']);
    expect(await kinds('mlp')).toEqual(['none', '1bit']);
    expect(await kinds('1bit-merging/chat')).toEqual(['exact', '1bit']);
    expect(await kinds('1bit-merging/math')).toEqual(['1bit', 'exact']);
  });

  it('take the first glob that matches, and refuse to make a norm 1-bit', () => {
    const treatment = treatmentOf([
      { match: 'model.layers.0.*', as: 'exact' },
      { match: '*_proj.weight', as: 'drop' },
    ]);
    expect(treatment('model.layers.0.mlp.up_proj.weight')).toBe('exact');
    expect(treatment('model.layers.1.mlp.up_proj.weight')).toBe('drop');
    expect(treatment('model.norm.weight')).toBe('exact');
    expect(() => treatmentOf([{ match: '*norm*', as: '1bit' }])('model.norm.weight')).toThrow(
      /"\*norm\*" makes model\.norm\.weight 1-bit/,
    );
  });
});

describe('scales', () => {
  it('by row lose less than by matrix, and by row and column less still', async () => {
    const [matrix, row, rowCol] = [
      await packed({ scale: 'matrix' }),
      await packed({ scale: 'row' }),
      await packed({ scale: 'row-col' }),
    ];
    expect(meanError(row)).toBeLessThan(meanError(matrix));
    expect(meanError(rowCol)).toBeLessThan(meanError(row));
  });

  it('that keep the norm keep it', async () => {
    const { out, errors } = await packed({ scale: 'matrix-norm' });
    for (const { stem, delta } of openDelta(new Uint8Array(await readFile(out)), out).params()) {
      if (!isLinearWeight(`${stem}.weight`)) continue;
      const [before, after] = [floats(base, stem), floats(tuned, stem)];
      const difference = after.map((value, i) => value - (before[i] ?? 0));
      const scale = delta.planes[0]?.rowScale[0] ?? 0;
      expect(scale * Math.sqrt(difference.length)).toBeCloseTo(Math.hypot(...difference), 5);
      const left = difference.map((value) => value - (value >= 0 ? scale : -scale));
      expect(errors[stem]).toBeCloseTo(Math.hypot(...left) / Math.hypot(...difference), 5);
    }
  });

  it('and calibration or further planes that contradict them are refused', async () => {
    await expect(packed({ scale: 'matrix', calibration: sequences(1, base) })).rejects.toThrow(
      /calibration fits scales "row" and "row-col"/,
    );
    await expect(packed({ scale: 'matrix-norm', planes: 2 })).rejects.toThrow(/matrix-norm/);
    await expect(packed({ planes: 9 })).rejects.toThrow(/1 to 8/);
    await expect(packed({ planes: { bits: 0.5 } })).rejects.toThrow(/bits is 0\.5/);
  });
});

describe('storage', () => {
  it('of a 7B base and three 1-bit experts is at most a third of four models', () => {
    const config = parseModelConfig(
      {
        model_type: 'mistral',
        hidden_act: 'silu',
        hidden_size: 4096,
        intermediate_size: 14_336,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        vocab_size: 32_000,
        max_position_embeddings: 32_768,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000,
        tie_word_embeddings: false,
        eos_token_id: 2,
      },
      'Mistral 7B',
    );
    const layout = { scale: 'row', exact: 'BF16', planesOf: () => 1 } as const;
    let [full, packed] = [0, 0];
    for (const { name, shape } of modelParams(config).specs) {
      full += 2 * elementCount(shape);
      if (!isLinearWeight(name)) continue;
      const [out, inDim = 1] = shape;
      for (const tensor of tensorsOf({ kind: '1bit', stem: name, out, inDim } as PlannedMatrix, layout))
        packed += 4 * elementCount(tensor.shape);
    }
    const share = (full + 3 * packed) / (4 * full);
    console.log(`base and three experts: ${((full + 3 * packed) / 1e9).toFixed(2)} GB, ${(100 * share).toFixed(2)} %`);
    expect(share).toBeLessThan(0.33);
  });
});

describe('an exact difference in INT8', () => {
  it('is half the size of BF16 and off by at most half a step of its row', async () => {
    const policy = [{ match: '*_proj.weight', as: 'exact' } as const];
    const [whole, narrow] = [await packed({ policy }), await packed({ policy, exact: 'I8' })];
    expect(narrow.bytes).toBeLessThan(0.65 * whole.bytes);
    const read = async ({ out }: PackReport) => [...openDelta(new Uint8Array(await readFile(out)), out).params()];
    const [wholeParams, narrowParams] = [await read(whole), await read(narrow)];
    expect(narrowParams.map(({ stem }) => stem)).toEqual(wholeParams.map(({ stem }) => stem));
    for (const [i, { delta }] of narrowParams.entries()) {
      const want = brains(wholeParams[i]?.delta.exact);
      const largest = Math.max(...want.map(Math.abs));
      for (const [k, value] of brains(delta.exact).entries())
        expect(Math.abs(value - (want[k] ?? 0))).toBeLessThanOrEqual((largest / 127) * 0.5 + largest * 2 ** -8);
    }
  });
});

describe('planes by budget', () => {
  it('spend at most the bits asked for, and save error', async () => {
    const [one, more] = [await packed(), await packed({ planes: { bits: 1.5 } })];
    expect(one.bits).toBe(1);
    expect(more.bits).toBeGreaterThan(1.3);
    expect(more.bits).toBeLessThanOrEqual(1.5);
    expect(meanError(more)).toBeLessThan(meanError(one));
  });

  it('are as many as it takes for an error', async () => {
    const { errors } = await packed({ planes: { maxError: 0.4 } });
    for (const [stem, error] of Object.entries(errors)) expect(error, stem).toBeLessThanOrEqual(0.4);
    await expect(packed({ planes: { maxError: 0.01 } })).rejects.toThrow(/4 planes leave a relative error of 0\.\d+/);
  });

  it('never spend more than the budget, whatever the matrices', () => {
    const matrix = fc.record({
      out: fc.integer({ min: 1, max: 64 }),
      inDim: fc.integer({ min: 1, max: 64 }),
      drops: fc.array(fc.double({ min: 0.05, max: 0.95, noNaN: true }), { minLength: 3, maxLength: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(matrix, { minLength: 1, maxLength: 12 }),
        fc.double({ min: 1, max: 3, noNaN: true }),
        (list, bits) => {
          const measured = list.map(({ out, inDim, drops }, i) => {
            let left = 1;
            const squared = [1, ...drops.map((drop) => (left *= drop))];
            return { param: { stem: `m${i}`, out, inDim } as PlannedMatrix, squared };
          });
          const planes = allocatePlanes(measured, { bits });
          const weights = measured.reduce((sum, { param }) => sum + param.out * param.inDim, 0);
          const spent = measured.reduce(
            (sum, { param }) => sum + param.out * param.inDim * (planes.get(param.stem) ?? 0),
            0,
          );
          expect(spent).toBeLessThanOrEqual(Math.max(weights, Math.round(bits * weights)));
          for (const count of planes.values()) expect(count >= 1 && count <= 3).toBe(true);
        },
      ),
    );
  });
});

describe('calibration', () => {
  it('brings the logits nearer to the fine-tune’s than plain row scales do, on other tokens, too', async () => {
    const [plain, calibrated] = [await packed(), await packed({ calibration: sequences(1, base) })];
    expect(calibrated.bytes - plain.bytes).toBeLessThan(512);
    const unseen = sequences(2, base).sequences.map(({ tokens }) => tokens);
    const [plainError, calibratedError] = [await logitError(plain, unseen), await logitError(calibrated, unseen)];
    expect(calibratedError).toBeLessThan(0.9 * plainError);
  });

  it('fits column scales, too', async () => {
    const [plain, calibrated] = [
      await packed({ scale: 'row-col' }),
      await packed({ scale: 'row-col', calibration: sequences(1, base) }),
    ];
    expect(calibrated.bytes - plain.bytes).toBeLessThan(512);
    const unseen = sequences(2, base).sequences.map(({ tokens }) => tokens);
    expect(await logitError(calibrated, unseen)).toBeLessThan(0.9 * (await logitError(plain, unseen)));
  });

  it('spends planes where they save the most KL for their bytes', async () => {
    const dear = 'model.layers.0.self_attn.v_proj';
    const asked: string[] = [];
    const cost = vi.spyOn(ErrorProbe.prototype, 'cost').mockImplementation(async (stem) => {
      asked.push(stem);
      return (stem === dear ? 100 : 1) / asked.filter((other) => other === stem).length;
    });
    const { params } = await packed({ calibration: sequences(1, base), planes: { bits: 1.05 } });
    cost.mockRestore();
    expect(params.filter(({ planes = 1 }) => planes > 1).map(({ stem }) => stem)).toEqual([dear]);
  });

  it('gives the same file for the same prompts, and says which they were', async () => {
    const [one, two] = [
      await packed({ calibration: sequences(1, base) }),
      await packed({ calibration: sequences(1, base) }),
    ];
    const bytes = await readFile(one.out);
    expect(bytes.equals(await readFile(two.out))).toBe(true);
    expect(openDelta(new Uint8Array(bytes), one.out).metadata.calibration).toBe(sequences(1, base).digest);
  });
});

/** Squared distance to the fine-tune's logits. */
async function logitError({ out }: PackReport, token: readonly (readonly number[])[]): Promise<number> {
  const options = { device: 'cpu', slots: 1, kvBlocks: 8, blockTokens: 8, maxRows: 64, maxLogitRows: 64 } as const;
  const [ours, theirs] = [await Model.load(base, options), await Model.load(tuned, options)];
  ours.loadExpert(0, openDelta(new Uint8Array(await readFile(out)), out));
  let error = 0;
  for (const tokens of token) {
    const got = await new Session(ours, 8, [{ slot: 0, weight: 1 }]).append(tokens, 'all');
    const want = await new Session(theirs, 8).append(tokens, 'all');
    got.forEach((value, i) => {
      error += (value - (want[i] ?? 0)) ** 2;
    });
  }
  ours.close();
  theirs.close();
  return error;
}

function floats({ tensors }: Checkpoint, stem: string): number[] {
  const data = tensors.get(`${stem}.weight`)?.data.slice() ?? new Uint8Array();
  return brains(new Uint16Array(data.buffer));
}

function brains(halves: Uint16Array = new Uint16Array()): number[] {
  return [...new Float32Array(Uint32Array.from(halves, (half) => half * 0x10000).buffer)];
}
