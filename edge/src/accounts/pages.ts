/**
 * What the Durable Object hands out page by page, the newest first.
 */

export type ReadPage = (
  limit: number,
  before?: number,
) => Promise<{ readonly items: readonly string[]; readonly next: number | undefined }>;

const PAGE = 500;

export async function* pagesOf(read: ReadPage): AsyncGenerator<readonly string[]> {
  let before: number | undefined;
  do {
    const { items, next } = await read(PAGE, before);
    yield items;
    before = next;
  } while (before !== undefined);
}
