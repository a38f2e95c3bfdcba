/**
 * Formats that answers can be held to, and their grammars by name: compiled once, kept for the next request.
 *
 * Compiling only builds the rules (well under a millisecond for a usual schema); states and token masks are made when an answer first comes to them,
 * and then shared by all that follow. A format costs no pause before its first token.
 */
import { Problem } from '@signpost/contracts';
import { readTokenizerFiles } from '../tokenizer/files.ts';
import { tokenBytes } from '../tokenizer/token-bytes.ts';
import { Automaton } from './automaton.ts';
import { GrammarConstraint } from './constraint.ts';
import { ANY_OBJECT } from './json.ts';
import { schemaRule } from './json-schema.ts';
import { regexRule } from './regex.ts';
import { chars, choice, literal, type Rule } from './rule.ts';
import { type ToolGrammar, toolCallsRule } from './tool-calls.ts';
import { VocabularyTree } from './vocabulary.ts';

/** Plain data: it crosses threads. */
export type GrammarSpec =
  /** A JSON object, whatever it holds. */
  | { readonly kind: 'json' }
  /** JSON that is valid under a schema. */
  | { readonly kind: 'schema'; readonly schema: unknown }
  /** Text that a regular expression matches as a whole. */
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  | ToolGrammar;

/** @throws Problem naming what in the format isn't supported. */
export function grammarRule(spec: GrammarSpec): Rule {
  switch (spec.kind) {
    case 'json':
      return ANY_OBJECT;
    case 'schema':
      return schemaRule(spec.schema);
    case 'regex':
      return regexRule(spec.pattern, { chars, match: 'whole' });
    case 'choice':
      if (spec.choices.length === 0) throw new Problem('there is nothing to choose from');
      return choice(...spec.choices.map(literal));
    case 'tool calls':
      return toolCallsRule(spec);
    default:
      return spec satisfies never;
  }
}

/** Grammars kept; each has its states and masks with it. */
const MAX_GRAMMARS = 32;

/** The grammars of one vocabulary. */
export class Grammars {
  readonly #vocabulary: VocabularyTree | Problem;
  /** By the format's text; the one used last stands last. */
  readonly #automata = new Map<string, Automaton>();

  /** @param vocabulary or why it can't be read: then no answer can be held to a format. */
  constructor(vocabulary: VocabularyTree | Problem) {
    this.#vocabulary = vocabulary;
  }

  /** Over the vocabulary of a checkpoint's `tokenizer.json`, of which `vocabSize` tokens have logits. */
  static async load(dir: string, vocabSize: number): Promise<Grammars> {
    try {
      const { tokenizer } = await readTokenizerFiles(dir);
      if (tokenizer === undefined) throw new Problem(`${dir} has no tokenizer.json`);
      return new Grammars(new VocabularyTree(tokenBytes(tokenizer, dir), vocabSize));
    } catch (error) {
      if (error instanceof Problem) return new Grammars(error);
      throw error;
    }
  }

  /** Holds one answer to a format. @throws Problem naming what in the format isn't supported. */
  constraint(spec: GrammarSpec, stopIds: readonly number[]): GrammarConstraint {
    if (this.#vocabulary instanceof Problem) throw this.#vocabulary;
    const key = JSON.stringify(spec);
    const automaton = this.#automata.get(key) ?? new Automaton(grammarRule(spec));
    this.#automata.delete(key);
    this.#automata.set(key, automaton);
    for (const oldest of this.#automata.keys()) {
      if (this.#automata.size <= MAX_GRAMMARS) break;
      this.#automata.delete(oldest);
    }
    return new GrammarConstraint(automaton, this.#vocabulary, stopIds);
  }
}
