/**
 * The versions of `routing.yaml`: numbered, with who wrote each and when, and all kept. KV holds the text in force, which isolates read; this is beside it, and the
 * one place that writes there, so that two administrators can't overwrite each other unseen (KV has no conditional writes).
 *
 * A text that somebody has put into KV by hand is in force like any other. It gets a number once an administrator looks.
 */
import { type Digest, sha256 } from '@signpost/contracts';
import type { RulesText } from '../rules/store.ts';

/** Without its text. */
export interface ConfigVersion {
  /** From 1; 0 are the rules bundled with the Worker. */
  readonly number: number;
  readonly sha256: Digest;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** An administrator's name, or `by hand`. */
  readonly by: string;
  readonly message: string | undefined;
}

export interface ConfigText extends ConfigVersion {
  readonly text: string;
}

export interface VersionStore {
  latest(): ConfigText | undefined;
  byNumber(number: number): ConfigText | undefined;
  /** The latest with this text. */
  byDigest(digest: Digest): ConfigText | undefined;
  /** Latest first. */
  list(limit: number): ConfigVersion[];
  add(version: ConfigText): void;
  remove(number: number): void;
}

export interface ConfigVersionsOptions {
  readonly versions: VersionStore;
  readonly kv: { read(): Promise<RulesText | undefined>; write(text: string, number: number): Promise<void> };
  readonly now: () => number;
}

export interface ConfigPut {
  readonly text: string;
  /** The version that it is to follow; `any` takes whichever there is. */
  readonly expected: number | 'any';
  readonly by: string;
  readonly message: string | undefined;
}

export type ConfigPutResult =
  | { readonly kind: 'written' | 'unchanged'; readonly version: ConfigVersion }
  | { readonly kind: 'conflict'; readonly latest: number };

export class ConfigVersions {
  readonly #options: ConfigVersionsOptions;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ConfigVersionsOptions) {
    this.#options = options;
  }

  /** What is in KV; undefined where there is nothing, and the bundled rules hold. */
  current(): Promise<ConfigText | undefined> {
    return this.#alone(() => this.#current());
  }

  put({ text, expected, by, message }: ConfigPut): Promise<ConfigPutResult> {
    return this.#alone(async () => {
      const current = await this.#current();
      const latest = current?.number ?? 0;
      if (expected !== 'any' && expected !== latest) return { kind: 'conflict', latest };
      const digest = await digestOf(text);
      if (current?.sha256 === digest) return { kind: 'unchanged', version: withoutText(current) };
      const { versions, kv, now } = this.#options;
      const number = (versions.latest()?.number ?? 0) + 1;
      const version = { number, sha256: digest, text, at: now(), by, message };
      versions.add(version);
      try {
        await kv.write(text, number);
      } catch (error) {
        versions.remove(number);
        throw error;
      }
      return { kind: 'written', version: withoutText(version) };
    });
  }

  list(limit: number): Promise<ConfigVersion[]> {
    return this.#alone(async () => {
      await this.#current();
      return this.#options.versions.list(limit);
    });
  }

  byNumber(number: number): ConfigText | undefined {
    return this.#options.versions.byNumber(number);
  }

  async #current(): Promise<ConfigText | undefined> {
    const { versions, kv, now } = this.#options;
    const found = await kv.read();
    if (found === undefined) return undefined;
    const latest = versions.latest();
    // Only this writes numbers there: a lower one is a copy of KV's that has yet to follow.
    if (latest !== undefined && found.number !== undefined && found.number < latest.number) return latest;
    const digest = await digestOf(found.text);
    // Known by its number, unless somebody has changed the text and left it; by hand it may also be an old text again.
    const known = found.number === undefined ? undefined : versions.byNumber(found.number);
    const version = known?.sha256 === digest ? known : versions.byDigest(digest);
    if (version !== undefined) return version;
    const number = (latest?.number ?? 0) + 1;
    const adopted = { number, sha256: digest, text: found.text, at: now(), by: BY_HAND, message: undefined };
    versions.add(adopted);
    return adopted;
  }

  /** One after the other: between reading KV and writing it nobody else does. */
  #alone<T>(action: () => Promise<T>): Promise<T> {
    const next = this.#last.then(action);
    this.#last = next.catch(() => undefined);
    return next;
  }
}

const BY_HAND = 'by hand';

function digestOf(text: string): Promise<Digest> {
  return sha256(new TextEncoder().encode(text));
}

function withoutText({ number, sha256: digest, at, by, message }: ConfigVersion): ConfigVersion {
  return { number, sha256: digest, at, by, message };
}
