/**
 * Which handler a request goes to, by path and method.
 */
import { ApiError } from '@signpost/contracts';

export interface Route<Call> {
  /** May end in `/:id`. */
  readonly path: string;
  /** By method. */
  readonly methods: Readonly<Record<string, (call: Call) => Promise<Response>>>;
}

export interface FoundRoute<Call> extends Route<Call> {
  /** What stands for `:id` in the path; empty where nothing does. */
  readonly id: string;
}

export function findRoute<Call>(routes: readonly Route<Call>[], pathname: string): FoundRoute<Call> | undefined {
  for (const route of routes) {
    const id = matchPath(route.path, pathname);
    if (id !== undefined) return { ...route, id };
  }
  return undefined;
}

/** The answer of the route's handler, or a 405 that says what it takes. @throws ApiError (404) where there is no route. */
export async function dispatch<Call>(
  route: FoundRoute<Call> | undefined,
  { method, pathname }: { readonly method: string; readonly pathname: string },
  call: Call,
): Promise<Response> {
  if (route === undefined)
    throw new ApiError('not_found_error', 'unknown_path', `there is nothing at ${method} ${pathname}`);
  const handler = Object.hasOwn(route.methods, method) ? route.methods[method] : undefined;
  if (handler !== undefined) return handler(call);
  const allow = Object.keys(route.methods).join(', ');
  return new ApiError('invalid_request_error', 'method_not_allowed', `${pathname} takes ${allow}`, {
    status: 405,
  }).toResponse({ allow });
}

/** The id in a path that matches, empty where it has none; undefined where it doesn't match. */
function matchPath(path: string, pathname: string): string | undefined {
  if (!path.endsWith('/:id')) return path === pathname ? '' : undefined;
  const prefix = path.slice(0, -':id'.length);
  const id = pathname.slice(prefix.length);
  return pathname.startsWith(prefix) && /^[\w.-]+$/.test(id) ? id : undefined;
}
