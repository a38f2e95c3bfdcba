/**
 * Each expert's tokenizer: the base's, with what the expert's delta file says is different. Read when first asked for, and kept.
 *
 * Knows nothing of slots: a prompt is encoded before its experts are resident.
 */
import {
  ApiError,
  type Digest,
  type ExpertVersion,
  type ExpertVocabulary,
  leadingVocabulary,
  Problem,
} from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import { type ObjectStore, readExpertHeader } from '@signpost/store';

/** Experts whose tokenizers are kept, of those that have one of their own. */
const MAX_KEPT = 64;

/** How the experts that are to answer are spoken to. */
export interface Speech {
  readonly tokenizer: Tokenizer;
  /** Token ids are below this. */
  readonly vocabSize: number;
}

interface OwnSpeech extends ExpertVocabulary, Speech {}

export class ExpertTokenizers {
  readonly #store: ObjectStore;
  readonly #base: Speech;
  /** The one used last stands last. */
  readonly #own = new Map<Digest, Promise<OwnSpeech>>();

  constructor(store: ObjectStore, base: Speech) {
    this.#store = store;
    this.#base = base;
  }

  /**
   * How several experts are spoken to together: as the one that adds tokens is, else as the first. The base's for none.
   *
   * @throws ApiError (400) when two of them add tokens, (503) when an expert's own can't be read.
   */
  async of(versions: readonly ExpertVersion[]): Promise<Speech> {
    const experts = await Promise.all(versions.map((version) => this.#speechOf(version)));
    try {
      return leadingVocabulary(experts) ?? this.#base;
    } catch (cause) {
      if (!(cause instanceof Problem)) throw cause;
      throw new ApiError('invalid_request_error', 'invalid_value', cause.message, { param: 'model', cause });
    }
  }

  async #speechOf(version: ExpertVersion): Promise<OwnSpeech> {
    const { digest, tokenizer } = version;
    if (tokenizer === undefined) return { ...this.#base, name: digest, changes: undefined, addedRows: 0 };
    const own = this.#own.get(digest) ?? this.#read(version, tokenizer);
    this.#own.delete(digest);
    this.#own.set(digest, own);
    const [oldest] = this.#own.keys();
    if (this.#own.size > MAX_KEPT && oldest !== undefined) this.#own.delete(oldest);
    try {
      return await own;
    } catch (cause) {
      // The next request tries again.
      if (this.#own.get(digest) === own) this.#own.delete(digest);
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new ApiError('server_error', 'expert_unavailable', `the tokenizer of ${digest} can't be read: ${why}`, {
        status: 503,
        cause,
      });
    }
  }

  async #read(version: ExpertVersion, header: NonNullable<ExpertVersion['tokenizer']>): Promise<OwnSpeech> {
    const { metadata, addedRows } = await readExpertHeader(this.#store, version, header);
    return {
      name: metadata.expert,
      changes: metadata.tokenizer,
      addedRows,
      tokenizer: this.#base.tokenizer.withChanges(metadata.tokenizer),
      vocabSize: this.#base.vocabSize + addedRows,
    };
  }
}
