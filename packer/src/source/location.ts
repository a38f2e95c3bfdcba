/**
 * How sources are named: a folder, `hf://ORG/NAME@REVISION`, or as in mergekit `MODEL+ADAPTER`, an adapter on a model. Known without the Hub's client.
 */
import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';

export const HUB_SCHEME = 'hf://';
export const PICKLE = /\.(bin|pt|pth|ckpt)$/;

/** The model and, of `MODEL+ADAPTER`, the adapter. A folder that is there may have a plus in its name. */
export function partsOf(location: string): [model: string] | [model: string, adapter: string] {
  const plus = location.indexOf('+');
  if (plus <= 0 || existsSync(location)) return [location];
  return [location.slice(0, plus), location.slice(plus + 1)];
}

/** A location as it stands in a recipe in `folder`, with its paths as seen from here. */
export function locateIn(folder: string, location: string): string {
  const locate = (path: string) => (isAbsolute(path) || path.startsWith(HUB_SCHEME) ? path : join(folder, path));
  const whole = locate(location);
  return existsSync(whole) ? whole : partsOf(location).map(locate).join('+');
}
