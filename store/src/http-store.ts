/**
 * Object storage behind a web server: read only, for regions that take their experts from a CDN or a public bucket.
 *
 * A user and password in the URL go to that origin only, and into no message.
 */
import { Problem } from '@signpost/contracts';
import {
  type ByteRange,
  checkKey,
  checkRange,
  type ObjectInfo,
  ObjectMissing,
  type ObjectStore,
  type PartsTaker,
  type ReadOptions,
  type StoredObject,
} from './object-store.ts';
import {
  type Attempt,
  BrokenAnswer,
  collect,
  RETRY_DEFAULTS,
  type RetryPolicy,
  retryingRead,
  StatusError,
} from './retry.ts';

const MAX_REDIRECTS = 3;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost']);

export class HttpStore implements ObjectStore {
  readonly url: string;
  /** Without credentials; ends in a slash. */
  readonly #root: URL;
  readonly #authorization: string | undefined;
  readonly #retries: RetryPolicy;

  /** @throws Problem for a URL with a query, or for http:// to another machine. */
  constructor(url: string, retries: RetryPolicy = RETRY_DEFAULTS) {
    const { root, authorization } = parseRoot(url);
    this.url = root.href.slice(0, -1);
    this.#root = root;
    this.#authorization = authorization;
    this.#retries = retries;
  }

  async head(key: string, { signal }: Pick<ReadOptions, 'signal'> = {}): Promise<ObjectInfo | undefined> {
    try {
      return await this.#retried(key, signal, async (attempt) => {
        const response = await this.#fetch(key, 'HEAD', {}, attempt);
        const length = response.headers.get('content-length');
        if (length === null) throw new Problem(`${this.url}/${key}: the server does not say how long it is`);
        return { bytes: Number(length), etag: etagOf(response) };
      });
    } catch (error) {
      if (error instanceof ObjectMissing) return undefined;
      throw error;
    }
  }

  async read(key: string, { range, signal, parts }: ReadOptions = {}): Promise<StoredObject> {
    // HTTP has no empty range.
    if (range !== undefined && range.end <= range.start)
      return { ...(await this.#inside(key, range, signal)), data: new Uint8Array() };
    try {
      const stored = await this.#retried(key, signal, (attempt) =>
        range === undefined ? this.#readWhole(key, attempt) : this.#readRange(key, range, attempt, parts),
      );
      if (range !== undefined) checkRange(this.url, key, range, stored.bytes);
      return stored;
    } catch (error) {
      if (range !== undefined && error instanceof Problem && isStatus(error.cause, 416))
        await this.#inside(key, range, signal);
      throw error;
    }
  }

  write(): Promise<never> {
    return this.#readOnly('written to');
  }

  list(): Promise<never> {
    return this.#readOnly('listed');
  }

  delete(): Promise<never> {
    return this.#readOnly('deleted from');
  }

  sweep(): Promise<never> {
    return this.#readOnly('swept');
  }

  async #readOnly(what: string): Promise<never> {
    throw new Problem(
      `${this.url} can only be read, not ${what}; give the store behind it, by s3://BUCKET/PREFIX or a path`,
    );
  }

  async #readWhole(key: string, attempt: Attempt): Promise<StoredObject> {
    const response = await this.#fetch(key, 'GET', {}, attempt);
    const length = response.headers.get('content-length');
    const data = await collect(bodyOf(response), length === null ? undefined : Number(length), attempt);
    return { bytes: data.byteLength, etag: etagOf(response), data };
  }

  async #readRange(
    key: string,
    range: ByteRange,
    attempt: Attempt,
    parts: PartsTaker | undefined,
  ): Promise<StoredObject> {
    const { start, end } = range;
    const response = await this.#fetch(key, 'GET', { range: `bytes=${start}-${end - 1}` }, attempt);
    const { from, total } =
      /^bytes (?<from>\d+)-\d+\/(?<total>\d+)$/.exec(response.headers.get('content-range') ?? '')?.groups ?? {};
    if (response.status !== 206 || Number(from) !== start) {
      await response.body?.cancel();
      throw new Problem(
        `${this.url}/${key}: the server does not serve ranges (status ${response.status} for bytes ${start}–${end}); Signpost needs them`,
      );
    }
    const bytes = Number(total);
    const data = await collect(bodyOf(response), Math.min(end, bytes) - start, attempt, parts);
    return { bytes, etag: etagOf(response), data };
  }

  /** @throws ObjectMissing when there is no object; Problem when the range isn't inside it. */
  async #inside(key: string, range: ByteRange, signal: AbortSignal | undefined): Promise<ObjectInfo> {
    const found = await this.head(key, { signal });
    if (found === undefined) throw new ObjectMissing(this.url, key);
    checkRange(this.url, key, range, found.bytes);
    return found;
  }

  async #retried<T>(key: string, signal: AbortSignal | undefined, read: (attempt: Attempt) => Promise<T>): Promise<T> {
    checkKey(key);
    try {
      return await retryingRead(this.#retries, signal, read);
    } catch (cause) {
      signal?.throwIfAborted();
      if (isStatus(cause, 404) || isStatus(cause, 410)) throw new ObjectMissing(this.url, key);
      if (!(cause instanceof Error) || cause instanceof Problem) throw cause;
      throw new Problem(`can't read ${this.url}/${key} (${reasonOf(cause)}); ${adviceFor(cause)}`, { cause });
    }
  }

  /** The answer, if it is a good one; what redirects it is followed a few times, and never to where others could listen. */
  async #fetch(
    key: string,
    method: 'GET' | 'HEAD',
    headers: Readonly<Record<string, string>>,
    { signal, begun }: Attempt,
  ): Promise<Response> {
    let url = new URL(key, this.#root);
    for (let redirects = 0; ; redirects++) {
      const isHome = url.origin === this.#root.origin;
      const response = await fetch(url, {
        method,
        redirect: 'manual',
        signal,
        headers: {
          ...headers,
          // Compressed, neither lengths nor ranges would be the object's.
          'accept-encoding': 'identity',
          ...(isHome && this.#authorization !== undefined ? { authorization: this.#authorization } : {}),
        },
      });
      begun();
      if (response.ok) return response;
      await response.body?.cancel();
      if (!REDIRECTS.has(response.status))
        throw new StatusError(
          `status ${response.status}`,
          response.status,
          response.headers.get('retry-after') ?? undefined,
        );
      const location = response.headers.get('location') ?? '';
      // Neither it nor its path stands in messages: such addresses are often signed.
      if (location === '' || !URL.canParse(location, url.href))
        throw new Problem(`${this.url}/${key}: the server redirects to no address`);
      const target = new URL(location, url);
      if (redirects === MAX_REDIRECTS)
        throw new Problem(`${this.url}/${key}: redirected more than ${MAX_REDIRECTS} times; give the final address`);
      if (!mayFollow(url, target))
        throw new Problem(
          `${this.url}/${key}: redirected to ${target.protocol}//${target.host}, which is not followed`,
        );
      url = target;
    }
  }
}

function parseRoot(text: string): { root: URL; authorization: string | undefined } {
  // The text may hold a password.
  if (!URL.canParse(text)) throw new Problem('store: this is no URL; expected https://HOST/PATH');
  const url = new URL(text);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  if (url.search !== '' || url.hash !== '')
    throw new Problem(`store ${url.origin}${url.pathname}: expected https://HOST/PATH, without ? and #`);
  if (url.protocol === 'http:' && !LOOPBACK.has(url.hostname))
    throw new Problem(`store ${url.href}: http:// is taken on this machine only; use https://`);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return {
    root: url,
    authorization: username === '' ? undefined : `Basic ${Buffer.from(pair).toString('base64')}`,
  };
}

/** From https:// to https:// only; what stays on this machine may be either. */
function mayFollow(from: URL, to: URL): boolean {
  if (to.username !== '' || to.password !== '') return false;
  return (
    to.protocol === 'https:' || (to.protocol === 'http:' && LOOPBACK.has(to.hostname) && LOOPBACK.has(from.hostname))
  );
}

/** What changes with the object's content, as far as the server says. */
function etagOf({ headers }: Response): string {
  return headers.get('etag') ?? headers.get('last-modified') ?? '';
}

async function* bodyOf({ body }: Response): AsyncGenerator<Uint8Array> {
  if (body !== null) yield* body;
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof StatusError && error.status === status;
}

/** `fetch` says only that it failed; why is in the cause. */
function reasonOf(error: Error): string {
  return error.cause instanceof Error && !(error instanceof BrokenAnswer) ? error.cause.message : error.message;
}

function adviceFor(error: Error): string {
  if (!(error instanceof StatusError)) return "check the network, and the store's address";
  if (error.status === 401 || error.status === 403) return 'check who may read it, and the credentials in the URL';
  return error.status >= 500 || error.status === 429
    ? 'the server has kept answering this'
    : 'the server answered but refused';
}
