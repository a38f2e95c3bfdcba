/**
 * The console's files, `/console/…`: the built page of `edge/dashboard`, out of the Worker's static assets.
 *
 * The Worker is asked before the assets are (`run_worker_first`): so that a request of the API makes no way round them, and the page has these headers wherever it runs.
 */
import { ApiError } from '@signpost/contracts';

const CONSOLE_PATH = '/console/';

/** Where the files are: the binding ASSETS. */
export interface ConsoleFiles {
  fetch(url: string, init: { readonly headers: Headers }): Promise<Response>;
}

/** Nothing from elsewhere, nothing inline, nobody around it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "form-action 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/** Names that change with what is in the file (edge/dashboard/build.ts). */
const HASHED = /-[0-9A-Z]{8}\.\w+$/;

export function isConsole(pathname: string): boolean {
  return pathname === '/console' || pathname.startsWith(CONSOLE_PATH);
}

/** @throws ApiError (404) for a file that there is not, (405) */
export async function answerConsole(request: Request, pathname: string, files: ConsoleFiles): Promise<Response> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return new ApiError('invalid_request_error', 'method_not_allowed', `${pathname} takes GET, HEAD`, {
      status: 405,
    }).toResponse({ allow: 'GET, HEAD' });
  }
  if (pathname === '/console')
    return new Response(null, { status: 308, headers: { ...HEADERS, location: CONSOLE_PATH } });
  const path = pathname === CONSOLE_PATH ? `${CONSOLE_PATH}index.html` : pathname;
  const headers = new Headers();
  const known = request.headers.get('if-none-match');
  if (known !== null) headers.set('if-none-match', known);
  const file = await files.fetch(new URL(path, request.url).href, { headers });
  if (file.status !== 200 && file.status !== 304) {
    await file.body?.cancel();
    throw new ApiError('not_found_error', 'unknown_path', `the console has no file ${pathname.slice(0, 200)}`);
  }
  const answer = new Response(request.method === 'HEAD' ? null : file.body, { status: file.status, headers: HEADERS });
  for (const name of ['content-type', 'etag']) {
    const value = file.headers.get(name);
    if (value !== null) answer.headers.set(name, value);
  }
  answer.headers.set('cache-control', HASHED.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache');
  return answer;
}
