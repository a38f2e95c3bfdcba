// Where the cache has a position: blocks of (kv heads, positions, head quads), keys then values.

override HEAD_DIM: u32 = 64u;
override HEAD_QUADS: u32 = (HEAD_DIM + 3u) / 4u;
override BLOCK_TOKENS: u32 = 16u;
override KV_HEADS: u32 = 1u;
override BLOCK_QUADS: u32 = KV_HEADS * BLOCK_TOKENS * HEAD_QUADS;

// First quad of a head at a position; `table` is where the sequence's block table begins, `layer` the layer's first quad.
fn cache_at(layer: u32, table: u32, position: u32, head: u32) -> u32 {
  let block = step[table + position / BLOCK_TOKENS];
  return layer + block * BLOCK_QUADS + (head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_QUADS;
}
