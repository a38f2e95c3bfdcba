/**
 * The edge's API as the console asks it. Keys live here and nowhere else: no storage, no address, no cookie.
 */

import { Refusal } from './refusal.ts';

/** `api`: an app's, for the playground. `operator`: an administrator's. */
export type KeyKind = 'api' | 'operator';
export type Keys = Readonly<Partial<Record<KeyKind, string>>>;

interface Ask {
  readonly method?: 'GET' | 'POST' | 'PUT';
  /** Sent as JSON, or as it is where it is text. */
  readonly body?: object | string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export class Client {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  has(kind: KeyKind): boolean {
    return this.#keys[kind] !== undefined;
  }

  async json<T>(kind: KeyKind, path: string, ask: Ask = {}): Promise<T> {
    return (await (await this.ask(kind, path, ask)).json()) as T;
  }

  /** @throws Refusal for all but a good answer; `AbortError` where the signal says so */
  async ask(kind: KeyKind, path: string, { method = 'GET', body, headers, signal }: Ask = {}): Promise<Response> {
    const key = this.#keys[kind];
    let response: Response;
    try {
      response = await fetch(path, {
        method,
        headers: {
          ...(typeof body === 'object' ? { 'content-type': 'application/json' } : {}),
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
        cache: 'no-store',
        credentials: 'omit',
      });
    } catch (cause) {
      if (isAbort(cause)) throw cause;
      throw new Refusal('the edge does not answer; is it up, and this machine online?', 0, 'unreachable');
    }
    if (response.ok) return response;
    throw await refusalOf(response);
  }
}

async function refusalOf(response: Response): Promise<Refusal> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error: { message: string; code: string } };
    return new Refusal(error.message, response.status, error.code);
  } catch {
    return new Refusal(`the edge answered ${response.status}: ${text.slice(0, 200)}`, response.status, 'unknown');
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}
