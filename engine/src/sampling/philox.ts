/**
 * Random numbers that are a function of a key and a counter, without state: a sequence that is resumed, preempted or moved to another machine draws
 * what it would have drawn.
 *
 * The obvious way: what kernels/src/native/gumbel.h and device/webgpu/shaders/gumbel.wgsl compute, and are tested against.
 *
 * Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (SC'11); the generator of PyTorch and cuRAND.
 */
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Four 32-bit words in place: `words` holds the counter and becomes the random words. */
export function philox(words: Uint32Array, key0: number, key1: number): void {
  let [c0 = 0, c1 = 0, c2 = 0, c3 = 0] = words;
  let k0 = key0;
  let k1 = key1;
  for (let round = 0; round < ROUNDS; round++) {
    const next0 = mulHigh(MULTIPLIER_1, c2) ^ c1 ^ k0;
    const next2 = mulHigh(MULTIPLIER_0, c0) ^ c3 ^ k1;
    c1 = Math.imul(MULTIPLIER_1, c2);
    c3 = Math.imul(MULTIPLIER_0, c0);
    c0 = next0;
    c2 = next2;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/** Who draws what: a seed of up to 53 bits, which answer of those that share it, and which of the answer's tokens. */
export interface Draw {
  readonly seed: number;
  readonly choice: number;
  readonly place: number;
}

/** A draw's words in the order that kernels take them: the key, low and high, then the counter's second and first. */
export function drawKey({ seed, choice, place }: Draw, into: Uint32Array): Uint32Array /* (4) */ {
  into[0] = seed;
  into[1] = Math.floor(seed / 2 ** 32);
  into[2] = choice;
  into[3] = place;
  return into;
}

/** Gumbel(0, 1) noise of a token in a draw. */
export function gumbel(draw: Draw, id: number): number {
  const [key0 = 0, key1 = 0] = drawKey(draw, new Uint32Array(4));
  const words = Uint32Array.of(draw.place, draw.choice, id >>> 2, 0);
  philox(words, key0, key1);
  return -Math.log(-Math.log1p(-((words[id & 3] ?? 0) + 0.5) / 2 ** 32));
}

/** Upper half of the product of two 32-bit words. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aHigh * bLow + ((aLow * bLow) >>> 16);
  const middle = aLow * bHigh + (low & 0xffff);
  return (aHigh * bHigh + (low >>> 16) + (middle >>> 16)) | 0;
}
