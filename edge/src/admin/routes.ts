/**
 * What the admin API's routes are made of.
 */

export interface AdminCall {
  readonly request: Request;
  /** Which administrator asks. */
  readonly by: string;
  /** What stands for `:id` in the path; empty where nothing does. */
  readonly id: string;
  /** Keeps work running beyond the request. */
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

export interface AdminRoute {
  /** May end in `/:id`. */
  readonly path: string;
  /** By method. */
  readonly methods: Readonly<Record<string, (call: AdminCall) => Promise<Response>>>;
}

/** The id in a path that matches, empty where it has none; undefined where it doesn't match. */
export function matchPath(path: string, pathname: string): string | undefined {
  if (!path.endsWith('/:id')) return path === pathname ? '' : undefined;
  const prefix = path.slice(0, -':id'.length);
  const id = pathname.slice(prefix.length);
  return pathname.startsWith(prefix) && /^[\w.-]+$/.test(id) ? id : undefined;
}
