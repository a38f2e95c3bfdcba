/**
 * Who asks, and what: keys and bodies, in the order in which they cost least.
 */
import { type Caller, identify } from '../auth/keys.ts';
import type { Admission, Door, Guest } from '../keys/door.ts';
import type { Settings } from '../settings/settings.ts';
import type { Handling } from './handling.ts';

export interface Asking<T> {
  readonly caller: Caller;
  readonly asked: T;
}

export class Reception {
  readonly #door: Door;
  readonly #settings: Settings;

  constructor({ door, settings }: { readonly door: Door; readonly settings: Settings }) {
    this.#door = door;
    this.#settings = settings;
  }

  /**
   * Whose key it is, as far as that costs no hop, and what is asked.
   *
   * @param read what the body asks. What is wrong with it only those are told whose key is good.
   * @throws ApiError (401); what `read` throws.
   */
  async hear<T>({ request, account }: Handling, read: (request: Request) => Promise<T>): Promise<Asking<T>> {
    const caller = await identify(request.headers.get('authorization'), this.#settings);
    // A managed key's object is asked later, and once, when it is known what the request may come to.
    if (caller.kind === 'managed') account.laps.lap('auth');
    else account.admits(caller.kind === 'configured' ? caller.tenant : undefined);
    try {
      return { caller, asked: await read(request) };
    } catch (error) {
      const { tenant, keyId } = await this.#door.look(caller);
      account.admits(tenant, keyId);
      throw error;
    }
  }

  /** Lets a request in. @param tokens the most that it may come to. @throws ApiError (401, 429, 503) as `Door#admit` does */
  async admit(caller: Caller, tokens: number, { account, waitUntil }: Handling): Promise<Admission> {
    const admission = await this.#door.admit(caller, tokens, waitUntil);
    account.admits(admission.tenant, admission.keyId);
    return admission;
  }

  /** Who asks, where that counts as no use of a key. @throws ApiError (401, 503) */
  async guest({ request, account }: Handling): Promise<Guest> {
    const guest = await this.#door.look(await identify(request.headers.get('authorization'), this.#settings));
    account.admits(guest.tenant, guest.keyId);
    return guest;
  }
}
