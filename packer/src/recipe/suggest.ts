/**
 * What was probably meant by a name that isn't known.
 */
import { Problem } from '@signpost/contracts';
import { closest, distance } from 'fastest-levenshtein';

/** `did you mean "density"?` where one of `known` is near, else the whole list. */
export function didYouMean(word: string, known: readonly string[]): string {
  const nearest = closest(word, known);
  // A third of the letters wrong is a slip; more is another word.
  return distance(word, nearest) <= Math.max(1, Math.floor(word.length / 3))
    ? `did you mean "${nearest}"?`
    : `known: ${known.join(', ')}`;
}

/** Refuses a key of `fields` that is not in `known`. @throws Problem with the key and what was probably meant. */
export function checkKeys(fields: object, known: readonly string[], where: string): void {
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new Problem(`${where}: unknown key "${unknown}"; ${didYouMean(unknown, known)}`);
}
