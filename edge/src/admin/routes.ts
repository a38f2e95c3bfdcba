/**
 * What the admin API's routes are made of.
 */
import type { Route } from '../dispatch.ts';

export interface AdminCall {
  readonly request: Request;
  /** Which administrator asks. */
  readonly by: string;
  /** What stands for `:id` in the path; empty where nothing does. */
  readonly id: string;
  /** Keeps work running beyond the request. */
  readonly waitUntil: (promise: Promise<unknown>) => void;
}

export type AdminRoute = Route<AdminCall>;
