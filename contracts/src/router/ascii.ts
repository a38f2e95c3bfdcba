/** Whether a text has ASCII characters alone, as most prompts do: what a character is can then be looked up. */
export function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text);
}
