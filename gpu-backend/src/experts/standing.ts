/**
 * What a region is to have at hand, by name: what its operator has pinned, and what its catalogue wants preloaded. Names are looked up again and again, so
 * that a pinned channel's new version comes in as soon as it is published, and the one before is let go.
 */
import {
  ApiError,
  type Digest,
  type ExpertVersion,
  Problem,
  parseExpertReference,
  resolveTargets,
} from '@signpost/contracts';
import type { CatalogueWatch } from './catalogue-watch.ts';
import type { Standing } from './prefetch.ts';

export interface StandingOrdersOptions {
  readonly catalogue: Pick<CatalogueWatch, 'catalogue' | 'current'>;
  /** Only experts of this base can be served. */
  readonly base: Digest;
  /** Device slots: one is left for what isn't pinned. */
  readonly slots: number;
  /** Given what to have at hand, whenever that has changed. */
  readonly keep: (standing: Standing) => void;
  /** Given what may be asked for soon. */
  readonly hint: (versions: readonly ExpertVersion[]) => void;
  readonly onProblem: (problem: string) => void;
  /** Names that are pinned from the start. */
  readonly pins?: readonly string[];
  /** By the clock if left out. */
  readonly upkeep?: Upkeep;
}

/** Whether names are looked up again by the clock, or when somebody says so: a process that may be frozen has no clock of its own. */
export type Upkeep = 'timed' | 'on demand';

/** How late a new version comes in. */
const EVERY_MS = 2_000;

export class StandingOrders {
  readonly #options: StandingOrdersOptions;
  readonly #pins: Set<string>;
  /** What was told last, so that it is told once. */
  #said = '';
  #problems = '';
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(options: StandingOrdersOptions) {
    this.#options = options;
    this.#pins = new Set(options.pins);
    if (options.upkeep !== 'on demand') this.#timer = setInterval(() => void this.look(), EVERY_MS).unref();
    void this.look();
  }

  get pins(): readonly string[] {
    return [...this.#pins];
  }

  /** Names that pin this version now. */
  pinsOf(digest: Digest): string[] {
    return this.pins.filter((name) => this.#found(name).some((version) => version.digest === digest));
  }

  /** @throws ApiError (404) for what is no expert here, (409) when no slot would be left for others. */
  async pin(name: string): Promise<void> {
    const versions = await this.versionsOf(name);
    const { slots } = this.#options;
    const others = this.pins.filter((other) => other !== name);
    const wanted = distinct([...others.flatMap((other) => this.#found(other)), ...versions]).length;
    if (wanted >= slots)
      throw new ApiError(
        'invalid_request_error',
        'too_many_pins',
        `with "${name}" ${wanted} experts would be pinned, and of this region's ${slots} slots one is kept for others; unpin some (pinned: ${others.join(', ') || 'none'}), or start the region with more --slots`,
        { status: 409, param: 'model' },
      );
    this.#pins.add(name);
    this.#tell();
  }

  /** @returns whether it was pinned. */
  unpin(name: string): boolean {
    const was = this.#pins.delete(name);
    this.#tell();
    return was;
  }

  /** Brings in ahead what these names stand for; those that stand for nothing are passed over. */
  hint(names: readonly string[]): void {
    const versions = distinct(names.flatMap((name) => this.#found(name)));
    if (versions.length > 0) this.#options.hint(versions);
  }

  /** What a name stands for: one version, or those of a channel that is shared. @throws ApiError (404) where that is nothing of this base's. */
  async versionsOf(name: string): Promise<ExpertVersion[]> {
    await this.#options.catalogue.catalogue();
    try {
      return this.#lookUp(name);
    } catch (cause) {
      if (!(cause instanceof Problem)) throw cause;
      throw new ApiError('not_found_error', 'model_not_found', cause.message, { param: 'model', cause });
    }
  }

  /** Looks the names up again. Never rejects. */
  async look(): Promise<void> {
    try {
      await this.#options.catalogue.catalogue();
      this.#tell();
    } catch {
      // There is no catalogue yet: every request says so.
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tell(): void {
    const { catalogue, slots, keep, onProblem } = this.#options;
    const problems: string[] = [];
    const lookedUp = (names: readonly string[]) =>
      names.flatMap((name) => this.#found(name, (why) => problems.push(`"${name}" can't be kept at hand: ${why}`)));
    const pinned = distinct(lookedUp(this.pins));
    if (pinned.length >= slots)
      problems.push(`${pinned.length} experts are pinned, of ${slots} slots; the last ones are not kept`);
    const standing = {
      pinned: pinned.slice(0, slots - 1),
      preload: distinct(lookedUp(catalogue.current?.preload ?? [])),
    };
    const told = problems.join('; ');
    if (told !== '' && told !== this.#problems) onProblem(told);
    this.#problems = told;
    const said = JSON.stringify([standing.pinned, standing.preload].map((list) => list.map(({ digest }) => digest)));
    if (said === this.#said) return;
    this.#said = said;
    keep(standing);
  }

  /** As `#lookUp`, nothing where it stands for nothing; `told` why. */
  #found(name: string, told: (why: string) => void = () => undefined): ExpertVersion[] {
    try {
      return this.#lookUp(name);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      told(error.message);
      return [];
    }
  }

  /** @throws Problem where it stands for nothing of this base's. */
  #lookUp(name: string): ExpertVersion[] {
    const { catalogue, base } = this.#options;
    const { expert, selector } = parseExpertReference(name);
    if (catalogue.current === undefined) return [];
    return resolveTargets(catalogue.current, expert, selector).map(({ version }) => {
      if (version.base !== base)
        throw new Problem(`expert "${name}" is made for base ${version.base}, this region's is ${base}`);
      return version;
    });
  }
}

function distinct(versions: readonly ExpertVersion[]): ExpertVersion[] {
  return [...new Map(versions.map((version) => [version.digest, version])).values()];
}
