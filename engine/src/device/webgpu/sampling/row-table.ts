/**
 * Rows' parameters and edits as shaders/sample.wgsl reads them: rows, then edits, in one buffer.
 */
import { drawKey } from '../../../sampling/philox.ts';
import { MOST_ALTERNATIVES, MOST_STEPS, type TokenChoice } from '../../choice.ts';

const ROW_WORDS = 20;
const EDIT_WORDS = 4;
const FLAG = { greedy: 1, edited: 2, scored: 4, topP: 8 } as const;
const MARK = { seen: 1, stop: 2 } as const;
/** 1 / temperature, and the distance that no logit exceeds, must stay numbers in 32 bits. */
const MOST_SCALE = 1e30;
const MOST_REACH = 3.4e38;

/** Words that these rows take: each has room for the tokens that it may choose in `steps`. */
export function tableWords(rows: readonly TokenChoice[], steps: number): number {
  return rows.reduce((sum, { edits }) => sum + ROW_WORDS + (edits.length + steps) * EDIT_WORDS, 0);
}

/** The same of so many rows in the longest run, with `edits` of all of them together. */
export function mostTableWords(rows: number, edits: number): number {
  return rows * (ROW_WORDS + MOST_STEPS * EDIT_WORDS) + edits * EDIT_WORDS;
}

/** With some to spare, so that a table that grows does so seldom. */
export function roomFor(words: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(words, 1024)));
}

/** Whether any of them needs a cut by top_k or top_p. */
export function needsCut(rows: readonly TokenChoice[], cols: number): boolean {
  return rows.some(({ params }) => params.temperature > 0 && (isTopK(params, cols) || params.topP < 1));
}

/** @throws RangeError for more alternatives than there is room for. */
export function writeTable(words: Uint32Array, rows: readonly TokenChoice[], steps: number, cols: number): void {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  let edit = rows.length * ROW_WORDS;
  for (const [index, { params, place, edits, alternatives }] of rows.entries()) {
    if ((alternatives ?? 0) > MOST_ALTERNATIVES)
      throw new RangeError(`row ${index} wants ${alternatives} alternatives, a device gives ${MOST_ALTERNATIVES}`);
    const { temperature, topP, topK, minP, seed, choice } = params;
    const at = index * ROW_WORDS;
    words[at] =
      (temperature === 0 ? FLAG.greedy : 0) |
      (countsTokens(params) || edits.length > 0 ? FLAG.edited : 0) |
      (alternatives === undefined ? 0 : FLAG.scored) |
      (topP < 1 ? FLAG.topP : 0);
    floats[at + 1] = temperature === 0 ? 0 : Math.min(MOST_SCALE, 1 / temperature);
    floats[at + 2] = minP > 0 ? Math.min(MOST_REACH, -temperature * Math.log(minP)) : MOST_REACH;
    words[at + 3] = isTopK(params, cols) ? topK : 0;
    words[at + 4] = Math.min(2 ** 32 - 1, topP * 2 ** 32);
    drawKey({ seed, choice, place }, words.subarray(at + 5, at + 9));
    words[at + 9] = params.minTokens;
    words[at + 10] = edit;
    words[at + 11] = edits.length;
    floats[at + 12] = params.repetitionPenalty;
    floats[at + 13] = params.presencePenalty;
    floats[at + 14] = params.frequencyPenalty;
    words[at + 15] = alternatives ?? 0;
    words[at + 16] = 0;
    for (const { id, bias, count, isSeen, isStop } of edits) {
      words[edit] = id;
      floats[edit + 1] = bias;
      words[edit + 2] = count;
      words[edit + 3] = (isSeen ? MARK.seen : 0) | (isStop ? MARK.stop : 0);
      edit += EDIT_WORDS;
    }
    edit += steps * EDIT_WORDS;
  }
}

function isTopK({ topK }: TokenChoice['params'], cols: number): boolean {
  return topK > 0 && topK < cols;
}

/** Whether what is chosen changes what is chosen next. */
function countsTokens({ repetitionPenalty, presencePenalty, frequencyPenalty }: TokenChoice['params']): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}
