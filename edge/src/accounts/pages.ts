/**
 * What the Durable Object hands out page by page.
 */

/** Items as JSON. */
interface Page {
  readonly items: readonly string[];
  readonly next: number | undefined;
}

export type ReadPage = (limit: number, before?: number) => Promise<Page>;

/** Kept as JSON, handed out as JSON. */
export function pageResponse({ items, next }: Page): Response {
  const body = `{"object":"list","data":[${items.join(',')}],"next":${next === undefined ? null : `"${next}"`}}`;
  return new Response(body, { headers: { 'content-type': 'application/json' } });
}

const PAGE = 500;

/** The newest first. */
export async function* pagesOf(read: ReadPage): AsyncGenerator<readonly string[]> {
  let before: number | undefined;
  do {
    const { items, next } = await read(PAGE, before);
    yield items;
    before = next;
  } while (before !== undefined);
}
