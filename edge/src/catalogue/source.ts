/**
 * The catalogue as the edge reads it: from R2, where the regions' store is that bucket or is mirrored to it. What it is for here is to know an expert's
 * versions and their size; a region reads it for itself.
 */
import {
  CATALOGUE_KEY,
  type Catalogue,
  catalogueSchema,
  openCatalogue,
  parseWith,
  type TrustedKey,
} from '@signpost/contracts';
import type { ObjectReader } from '../classify/source.ts';

/** @returns undefined where there is none. @throws Problem when it isn't valid, or not signed by one of the keys in `trust`. */
export async function readEdgeCatalogue(
  store: ObjectReader,
  trust: readonly TrustedKey[],
): Promise<Catalogue | undefined> {
  const object = await store.get(CATALOGUE_KEY);
  if (object === null) return undefined;
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await object.arrayBuffer());
  const { payload } = await openCatalogue(text, trust, `${CATALOGUE_KEY} in R2`);
  return parseWith(catalogueSchema, payload, `${CATALOGUE_KEY} in R2`);
}
