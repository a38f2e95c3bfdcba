/**
 * Rotary embedding tables. Source: RoFormer (arXiv 2104.09864), equation 34; `llama3` stretching as in the Llama 3.1 release: wavelengths
 * beyond the original context are scaled by `factor`, short ones kept, those between blended.
 */
import type { ModelConfig } from '../checkpoint/config.ts';
import type { RopeTable } from '../device/device.ts';

/** Tables for positions 0 … `positions - 1`, with shape (positions, headDim / 2) each. */
export function ropeTable(config: ModelConfig, positions: number): RopeTable {
  const frequencies = ropeFrequencies(config);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    frequencies.forEach((frequency, i) => {
      // transformers multiplies in float32; doing the same keeps long contexts equal.
      const angle = Math.fround(position * frequency);
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    });
  }
  return { cos, sin, headDim: config.headDim };
}

/** Radians per position of each pair, (headDim / 2), rounded to float32. */
function ropeFrequencies({ headDim, ropeTheta, ropeScaling }: ModelConfig): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => Math.fround(ropeTheta ** ((-2 * i) / headDim)));
  switch (ropeScaling.kind) {
    case 'none':
      return plain;
    case 'linear':
      return plain.map((frequency) => Math.fround(frequency / ropeScaling.factor));
    case 'llama3': {
      const { factor, lowFreqFactor, highFreqFactor, originalPositions } = ropeScaling;
      return plain.map((frequency) => {
        const turns = (originalPositions * frequency) / (2 * Math.PI);
        const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
        return Math.fround(kept * frequency + (1 - kept) * (frequency / factor));
      });
    }
    default:
      return ropeScaling satisfies never;
  }
}
