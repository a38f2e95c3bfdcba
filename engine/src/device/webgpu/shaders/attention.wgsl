// Causal attention over block tables: queries that share a kv head and a sequence go through its cache together, a tile of positions at a time, with a
// running maximum and sum (FlashAttention, arXiv 2205.14135; split over positions as in Flash-Decoding).

struct Params {
  view: u32,
  layer: u32, // first quads of keys and values
  values: u32,
  heads: u32,
  q_stride: u32, // floats
  out_stride: u32,
  window: u32, // 0: all positions
  scale: f32,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> queries: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read_write> splits: array<f32>; // (rows, heads, SPLITS, 4 · HEAD_QUADS + 2): sums of values, maximum, sum of weights

override WORKGROUP: u32 = 128u;
override SPLITS: u32 = 1u;
// (row, head) pairs, and positions, of a tile.
override QUERIES: u32 = 16u;
override POSITIONS: u32 = 16u;
// Heads of a kv head that attend together: all of them, or QUERIES.
override GROUP_HEADS: u32 = 1u;
const MOST_QUADS = 8u; // set by ../shader.ts: QUERIES · HEAD_QUADS / WORKGROUP

var<workgroup> tile: array<vec4<f32>, POSITIONS * (HEAD_QUADS + 1u)>; // keys, then values
var<workgroup> query: array<vec4<f32>, QUERIES * (HEAD_QUADS + 1u)>;
var<workgroup> scores: array<f32, QUERIES * POSITIONS>;
var<workgroup> top: array<f32, QUERIES>;
var<workgroup> total: array<f32, QUERIES>;
var<workgroup> shrink: array<f32, QUERIES>;

const LEAST = -3e38;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let of_tile = view_of(params.view, VIEW_QUERIES) + group_id.x * 2u;
  let first_row = step[of_tile];
  let rows = step[of_tile + 1u];
  let group_of_kv = params.heads / KV_HEADS;
  let parts = (group_of_kv + GROUP_HEADS - 1u) / GROUP_HEADS;
  let kv_head = group_id.y / parts;
  let first_head = kv_head * group_of_kv + group_id.y % parts * GROUP_HEADS;
  let heads = min(GROUP_HEADS, (kv_head + 1u) * group_of_kv - first_head);
  let count = rows * heads;
  let positions = view_of(params.view, VIEW_POSITIONS);
  let table = step[view_of(params.view, VIEW_TABLES) + first_row];
  let first_position = step[positions + first_row];
  let end = first_position + rows;

  for (var i = lane; i < QUERIES * HEAD_QUADS; i += WORKGROUP) {
    let q = i / HEAD_QUADS;
    var values = vec4<f32>();
    if (q < count) {
      let begin = (first_row + q / heads) * params.q_stride + (first_head + q % heads) * HEAD_DIM;
      for (var k = 0u; k < 4u; k++) {
        let column = i % HEAD_QUADS * 4u + k;
        if (column < HEAD_DIM) { values[k] = queries[begin + column] * params.scale; }
      }
    }
    query[q * (HEAD_QUADS + 1u) + i % HEAD_QUADS] = values;
  }
  for (var q = lane; q < QUERIES; q += WORKGROUP) {
    top[q] = LEAST;
    total[q] = 0.0;
  }
  var sums: array<vec4<f32>, MOST_QUADS>;

  // Whole tiles from the earliest position that any of the queries sees; a split has its share of them.
  var begin = 0u;
  if (params.window > 0u && first_position + 1u > params.window) { begin = first_position + 1u - params.window; }
  let tiles = (end - begin + POSITIONS - 1u) / POSITIONS;
  let share = (tiles + SPLITS - 1u) / SPLITS;
  let last_tile = min(tiles, (group_id.z + 1u) * share);
  for (var t = group_id.z * share; t < last_tile; t++) {
    let earliest = begin + t * POSITIONS;
    workgroupBarrier();
    for (var i = lane; i < POSITIONS * HEAD_QUADS; i += WORKGROUP) {
      let position = earliest + i / HEAD_QUADS;
      var values = vec4<f32>();
      if (position < end) { values = cached(cache_at(params.layer, table, position, kv_head) + i % HEAD_QUADS); }
      tile[i / HEAD_QUADS * (HEAD_QUADS + 1u) + i % HEAD_QUADS] = values;
    }
    workgroupBarrier();
    for (var i = lane; i < QUERIES * POSITIONS; i += WORKGROUP) {
      let q = i / POSITIONS;
      let position = earliest + i % POSITIONS;
      let own = first_position + q / heads;
      var score = LEAST;
      if (q < count && position <= own && (params.window == 0u || position + params.window > own)) {
        var dots = vec4<f32>();
        for (var quad = 0u; quad < HEAD_QUADS; quad++) {
          dots += query[q * (HEAD_QUADS + 1u) + quad] * tile[i % POSITIONS * (HEAD_QUADS + 1u) + quad];
        }
        score = dots.x + dots.y + dots.z + dots.w;
      }
      scores[i] = score;
    }
    workgroupBarrier();
    for (var i = lane; i < POSITIONS * HEAD_QUADS; i += WORKGROUP) {
      let position = earliest + i / HEAD_QUADS;
      var values = vec4<f32>();
      if (position < end) { values = cached(cache_at(params.values, table, position, kv_head) + i % HEAD_QUADS); }
      tile[i / HEAD_QUADS * (HEAD_QUADS + 1u) + i % HEAD_QUADS] = values;
    }
    for (var q = lane; q < QUERIES; q += WORKGROUP) {
      var most = top[q];
      for (var p = 0u; p < POSITIONS; p++) { most = max(most, scores[q * POSITIONS + p]); }
      // Nothing seen yet: nothing to shrink, and no weight.
      let factor = exp(top[q] - most);
      var sum = total[q] * factor;
      for (var p = 0u; p < POSITIONS; p++) {
        let score = scores[q * POSITIONS + p];
        let weight = select(exp(score - most), 0.0, score == LEAST);
        scores[q * POSITIONS + p] = weight;
        sum += weight;
      }
      top[q] = most;
      total[q] = sum;
      shrink[q] = factor;
    }
    workgroupBarrier();
    for (var n = 0u; n < MOST_QUADS; n++) {
      let i = lane + n * WORKGROUP;
      let q = i / HEAD_QUADS;
      if (q >= count) { break; }
      var sum = sums[n] * shrink[q];
      for (var p = 0u; p < POSITIONS; p++) {
        sum += scores[q * POSITIONS + p] * tile[p * (HEAD_QUADS + 1u) + i % HEAD_QUADS];
      }
      sums[n] = sum;
    }
  }
  workgroupBarrier();

  for (var n = 0u; n < MOST_QUADS; n++) {
    let i = lane + n * WORKGROUP;
    let q = i / HEAD_QUADS;
    if (q >= count) { break; }
    let row = first_row + q / heads;
    let head = first_head + q % heads;
    let quad = i % HEAD_QUADS;
    if (SPLITS == 1u) {
      let values = sums[n] / total[q];
      for (var k = 0u; k < 4u; k++) {
        if (quad * 4u + k < HEAD_DIM) { out[row * params.out_stride + head * HEAD_DIM + quad * 4u + k] = values[k]; }
      }
    } else {
      let at = ((row * params.heads + head) * SPLITS + group_id.z) * (HEAD_QUADS * 4u + 2u);
      for (var k = 0u; k < 4u; k++) { splits[at + quad * 4u + k] = sums[n][k]; }
      if (quad == 0u) {
        splits[at + HEAD_QUADS * 4u] = top[q];
        splits[at + HEAD_QUADS * 4u + 1u] = total[q];
      }
    }
  }
}
