// A chunk's largest of (logit − top) / temperature + Gumbel noise, of the tokens that a row may draw.

@group(0) @binding(5) var<storage, read> cuts: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> draws: array<vec2<u32>>; // (rows, chunks): bits of the score, id

// Whether sample_cut.wgsl has been over the rows.
override IS_CUT: bool = false;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.y * ROW_WORDS;
  let flags = table[row + ROW_FLAGS];
  if ((flags & IS_GREEDY) != 0u) { return; }
  let is_edited = (flags & IS_EDITED) != 0u;
  let origin = group_id.y * params.stride;
  let begin = group_id.x * CHUNK;
  let end = min(begin + CHUNK, params.cols);
  let top = top_of(group_id.y);
  let scale = bitcast<f32>(table[row + ROW_SCALE]);
  let reach = bitcast<f32>(table[row + ROW_REACH]);
  let key = vec2<u32>(table[row + ROW_KEY], table[row + ROW_KEY + 1u]);
  let counter = vec4<u32>(table[row + ROW_PLACE], table[row + ROW_CHOICE], 0u, 0u);
  var cut = vec2<u32>(0u, NO_ID);
  if (IS_CUT) { cut = cuts[group_id.y]; }
  var best = Found(LEAST, NO_ID);
  for (var four = begin + lanes.lane * 4u; four < end; four += WORKGROUP * 4u) {
    var values = vec4<f32>();
    var kept = vec4<bool>();
    for (var i = 0u; i < 4u; i++) {
      let id = four + i;
      if (id >= end) { break; }
      let value = logit_at(is_edited, origin + id);
      let order = key_of(value);
      values[i] = value;
      kept[i] = top - value <= reach && (order > cut.x || (order == cut.x && id <= cut.y));
    }
    if (!any(kept)) { continue; }
    let words = philox(counter + vec4<u32>(0u, 0u, four / 4u, 0u), key);
    for (var i = 0u; i < 4u; i++) {
      let score = (values[i] - top) * scale + gumbel_of(words[i]);
      if (kept[i] && score > best.value) { best = Found(score, four + i); }
    }
  }
  best = largest_of(best, lanes);
  if (lanes.lane == 0u) { draws[group_id.y * params.chunks + group_id.x] = vec2<u32>(bitcast<u32>(best.value), best.id); }
}
