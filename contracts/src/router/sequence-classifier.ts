/**
 * A transformer that sorts texts, as Hugging Face's tools export it to ONNX: text → token ids → logits → probabilities by label. Packer and edge share this file.
 *
 * Knows no ONNX Runtime: who has one gives a graph. Not among what `index.ts` exports, so that its tokenizer is evaluated only where such a model is at work.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { Problem } from '../problem.ts';
import type { TransformerManifest } from './manifest.ts';

/** As ONNX Runtime describes an input or an output. */
export interface GraphValue {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type?: string;
}

/** A started graph. */
export interface SequenceGraph {
  readonly inputs: readonly GraphValue[];
  readonly outputs: readonly GraphValue[];
  /** @param inputs int64 of the shape (1, tokens). */
  run(
    inputs: Readonly<Record<string, BigInt64Array>>,
  ): Promise<{ readonly logits?: { readonly data: unknown; readonly dims: readonly number[] } }>;
}

const INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];

/** UTF-16 units looked at for each token that a model takes: text has about four, so only what is hardly text is cut by it. It bounds the tokenizer's time. */
const CHARS_PER_TOKEN = 32;

export class SequenceClassifier {
  readonly #graph: SequenceGraph;
  readonly #encoder: SequenceEncoder;
  readonly #manifest: TransformerManifest;

  /**
   * @param tokenizer the content of a `tokenizer.json`.
   * @throws Problem when the graph is no sequence classifier, or the tokenizer can't be used.
   */
  constructor(graph: SequenceGraph, tokenizer: unknown, manifest: TransformerManifest) {
    assertInputs(graph.inputs);
    assertOutput(graph.outputs);
    this.#graph = graph;
    this.#encoder = new SequenceEncoder(tokenizer, manifest.maxTokens);
    this.#manifest = manifest;
  }

  /** @throws Problem when the graph's output isn't one finite logit a label. */
  async classify(text: string): Promise<Float32Array> {
    return this.#run(this.#encoder.encode(text));
  }

  /** Runs it at its full length, which may fail where short texts don't: its positions may be fewer. */
  async proveLength(): Promise<void> {
    try {
      await this.#run(this.#encoder.longest());
    } catch (cause) {
      if (cause instanceof Problem) throw cause;
      throw new Problem(
        `the router model can't take the ${this.#manifest.maxTokens} tokens that router.json says (${cause instanceof Error ? cause.message : cause}); try fewer of them`,
        { cause },
      );
    }
  }

  // (labels)
  async #run(ids: readonly number[]): Promise<Float32Array> {
    const { labels, temperature } = this.#manifest;
    const given: Readonly<Record<string, () => BigInt64Array>> = {
      input_ids: () => BigInt64Array.from(ids, BigInt),
      attention_mask: () => new BigInt64Array(ids.length).fill(1n),
      token_type_ids: () => new BigInt64Array(ids.length),
    };
    const inputs = this.#graph.inputs.map(({ name }) => [name, given[name]?.() ?? new BigInt64Array()] as const);
    const { logits } = await this.#graph.run(Object.fromEntries(inputs));
    if (!(logits?.data instanceof Float32Array) || logits.dims.join() !== `1,${labels.length}`)
      throw new Problem(
        `the router model gives logits of the shape [${logits?.dims.join(', ') ?? ''}]; router.json has ${labels.length} labels, so [1, ${labels.length}] is expected`,
      );
    if (!logits.data.every(Number.isFinite))
      throw new Problem(`the router model gives the logits [${logits.data.join(', ')}], not all of them finite`);
    return softmax(logits.data, temperature);
  }
}

/** Token ids of a text, as `transformers` gives them with `truncation=True, max_length=maxTokens`. */
class SequenceEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #maxTokens: number;
  /** Special tokens before a text and after it. */
  readonly #before: readonly number[];
  readonly #after: readonly number[];

  constructor(json: unknown, maxTokens: number) {
    this.#tokenizer = openTokenizer(json);
    this.#maxTokens = maxTokens;
    const own = this.#idsOf('a');
    const whole: readonly number[] = this.#tokenizer.encode('a').ids;
    const at = whole.findIndex((_, i) => own.every((id, j) => whole[i + j] === id));
    if (own.length === 0 || at === -1) throw new Problem('tokenizer.json gives no token for the text "a"');
    this.#before = whole.slice(0, at);
    this.#after = whole.slice(at + own.length);
    if (whole.length - own.length >= maxTokens)
      throw new Problem(
        `tokenizer.json has ${whole.length - own.length} special tokens for a text, of ${maxTokens} tokens in all`,
      );
  }

  encode(text: string): number[] {
    return this.#framed(this.#idsOf(text.slice(0, this.#maxTokens * CHARS_PER_TOKEN)));
  }

  /** As many tokens as there may be. */
  longest(): number[] {
    const [id = 0] = this.#idsOf('a');
    return this.#framed(new Array<number>(this.#maxTokens).fill(id));
  }

  /** Without special tokens. Unknown ones are left out where the tokenizer has no token for them. */
  #idsOf(text: string): number[] {
    const ids: readonly (number | undefined)[] = this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
    return ids.filter((id) => id !== undefined);
  }

  #framed(ids: readonly number[]): number[] {
    const room = this.#maxTokens - this.#before.length - this.#after.length;
    return [...this.#before, ...ids.slice(0, room), ...this.#after];
  }
}

function openTokenizer(json: unknown): Tokenizer {
  if (typeof json !== 'object' || json === null) throw new Problem('tokenizer.json holds no object');
  try {
    return new Tokenizer(json, {});
  } catch (cause) {
    throw new Problem(`tokenizer.json can't be used: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function assertInputs(inputs: readonly GraphValue[]): void {
  const isOne = inputs.some(({ name }) => name === 'input_ids');
  if (isOne && inputs.every(({ name, type }) => INPUTS.includes(name) && type === 'int64')) return;
  throw new Problem(
    `the router model takes ${listed(inputs)}; expected input_ids and, if it has them, attention_mask and token_type_ids, all int64 [1, tokens]`,
  );
}

function assertOutput(outputs: readonly GraphValue[]): void {
  if (outputs.some(({ name, type }) => name === 'logits' && type === 'float32')) return;
  throw new Problem(`the router model gives ${listed(outputs)}; expected logits, float32 [1, labels]`);
}

function listed(values: readonly GraphValue[]): string {
  return values.map(({ name, type = 'no tensor' }) => `${name} (${type})`).join(', ') || 'nothing';
}

/** Of the logits divided by `temperature`. (labels) */
function softmax(logits: Float32Array, temperature: number): Float32Array {
  const most = Math.max(...logits);
  const powers = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
  const sum = powers.reduce((all, power) => all + power, 0);
  return Float32Array.from(powers, (power) => power / sum);
}
