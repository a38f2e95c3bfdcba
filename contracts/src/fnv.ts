/** FNV-1a, 32 bits, over UTF-16 units: a hash that can be gone on with, unit by unit. Not for secrets. */
export const FNV_OFFSET = 0x811c9dc5;

export function fnv1a(hash: number, unit: number): number {
  return Math.imul(hash ^ unit, 0x01000193);
}
