/**
 * A real model against transformers, where its weights are at hand: `SIGNPOST_SMOLLM2` names a folder with SmolLM2-135M-Instruct.
 *
 * The golden file holds transformers' own chat text, token ids and greedy tokens (float32) of the BF16 checkpoint made from the model's
 * Q4_1 GGUF; `greedy_margin` is how far apart the best two logits were.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { Model } from './model.ts';
import { Session } from './session.ts';

interface GoldenChat {
  readonly messages: readonly { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }[];
  readonly text: string;
  readonly input_ids: readonly number[];
  readonly greedy: readonly number[];
  readonly answer: string;
}

const DIR = process.env.SIGNPOST_SMOLLM2 ?? '';
const GOLDEN = join(import.meta.dirname, '../../../test/golden/smollm2/golden.json');
const { cases } = JSON.parse(readFileSync(GOLDEN, 'utf8')) as { cases: readonly GoldenChat[] };
const BLOCKS = 16;

describe.skipIf(DIR === '')('SmolLM2-135M-Instruct', () => {
  let model: Model;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(DIR);
    model = await Model.load(await openCheckpoint(DIR), {
      device: 'cpu',
      slots: 0,
      kvBlocks: BLOCKS,
      blockTokens: 16,
      maxRows: 128,
      maxLogitRows: 1,
    });
  }, 60_000);
  afterAll(() => model?.close());

  it.each(cases.map((golden) => [golden.messages.at(-1)?.content, golden] as const))(
    'answers "%s" with the tokens of transformers, through its own chat template',
    async (_, { messages, text, input_ids, greedy, answer }) => {
      expect(tokenizer.chatPrompt(messages)).toBe(text);
      const ids = tokenizer.encodeChat(messages);
      expect(ids).toEqual(input_ids);
      expect(await new Session(model, BLOCKS).greedy(ids, greedy.length)).toEqual(greedy);
      expect(tokenizer.decode(greedy)).toBe(answer);
    },
    60_000,
  );
});
