/**
 * The text of a managed key: `signpost_`, 40 random letters and digits (238 bits), and a checksum of six, as GitHub's tokens have it, so that what
 * can't be a key is refused where it arrives. The checksum is no secret: it stops typing errors and garbage, not people.
 */

const PREFIX = 'signpost_';
const RANDOM_CHARS = 40;
const CHECKSUM_CHARS = 6;
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const FORM = new RegExp(`^${PREFIX}[0-9A-Za-z]{${RANDOM_CHARS + CHECKSUM_CHARS}}$`);

export function newKeyText(): string {
  let text = PREFIX;
  while (text.length < PREFIX.length + RANDOM_CHARS) {
    // Bytes beyond the last whole round of the alphabet would make its first letters likelier.
    for (const byte of crypto.getRandomValues(new Uint8Array(RANDOM_CHARS))) {
      if (byte < 4 * ALPHABET.length && text.length < PREFIX.length + RANDOM_CHARS)
        text += ALPHABET[byte % ALPHABET.length];
    }
  }
  return text + checksum(text);
}

/** Whether `text` has the form of a managed key, its checksum included. */
export function isKeyText(text: string): boolean {
  return FORM.test(text) && text.endsWith(checksum(text.slice(0, -CHECKSUM_CHARS)));
}

/** CRC-32 (ISO 3309) of the text in base 62. */
function checksum(text: string): string {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i);
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  let rest = (crc ^ 0xffffffff) >>> 0;
  let digits = '';
  for (let i = 0; i < CHECKSUM_CHARS; i++) {
    digits = ALPHABET[rest % ALPHABET.length] + digits;
    rest = Math.floor(rest / ALPHABET.length);
  }
  return digits;
}
