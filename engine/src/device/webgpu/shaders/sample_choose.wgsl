// A row's token, of what its chunks have found; its log-probability and the likeliest tokens, where they are wanted. The token is put where the row's next
// step finds it: with it the step stands one position further on, and the row's parameters one place.

@group(0) @binding(2) var<storage, read_write> table: array<u32>;
@group(0) @binding(4) var<storage, read> peaks: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> draws: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read_write> chosen: array<u32>; // (steps, rows, CHOSEN_WORDS)
@group(0) @binding(8) var<storage, read_write> step: array<u32>; // step.wgsl says what stands where

const CHOSEN_WORDS = 42u; // token, log-probability, then pairs of id and log-probability
const VIEW_WORDS = 16u;
const VIEW_TOKENS = 1u;
const VIEW_POSITIONS = 2u;

// Whether another step follows, of one row each: the rows of both views are the same then.
override IS_FOLLOWED: bool = false;

var<workgroup> shared_flags: u32;
var<workgroup> shared_alternatives: u32;
var<workgroup> shared_edit: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.y * ROW_WORDS;
  if (lanes.lane == 0u) {
    shared_flags = table[row + ROW_FLAGS];
    shared_alternatives = table[row + ROW_ALTERNATIVES];
    atomicStore(&shared_edit, NO_ID);
  }
  let flags = workgroupUniformLoad(&shared_flags);
  let alternatives = workgroupUniformLoad(&shared_alternatives);
  var best = Found(LEAST, NO_ID);
  for (var i = lanes.lane; i < params.chunks; i += WORKGROUP) {
    let at = group_id.y * params.chunks + i;
    if ((flags & IS_GREEDY) != 0u) { best = larger_of(best, Found(bitcast<f32>(peaks[at].x), peaks[at].y)); }
    else { best = larger_of(best, Found(bitcast<f32>(draws[at].x), draws[at].y)); }
  }
  best = largest_of(best, lanes);
  // Logits that are no numbers: any token will do, as long as there is such a one.
  let token = select(best.id, 0u, best.id >= params.cols);
  let out = (table[row + ROW_CHOSEN] * params.rows + group_id.y) * CHOSEN_WORDS;
  let origin = group_id.y * params.stride;
  if ((flags & IS_SCORED) != 0u) {
    var top = LEAST;
    for (var i = 0u; i < params.chunks; i++) { top = max(top, bitcast<f32>(peaks[group_id.y * params.chunks + i].z)); }
    var sum = 0.0;
    for (var i = 0u; i < params.chunks; i++) {
      let peak = peaks[group_id.y * params.chunks + i];
      sum += bitcast<f32>(peak.w) * exp(bitcast<f32>(peak.z) - top);
    }
    let normaliser = top + log(sum);
    if (lanes.lane == 0u) { chosen[out + 1u] = bitcast<u32>(logits[origin + token] - normaliser); }
    var last = Found(-LEAST, 0u);
    for (var n = 0u; n < alternatives; n++) {
      var next = Found(LEAST, NO_ID);
      for (var id = lanes.lane; id < params.cols; id += WORKGROUP) {
        let value = logits[origin + id];
        let is_after = value < last.value || (value == last.value && id > last.id);
        if (is_after && value > next.value) { next = Found(value, id); }
      }
      last = largest_of(next, lanes);
      if (lanes.lane == 0u) {
        chosen[out + 2u + n * 2u] = last.id;
        chosen[out + 3u + n * 2u] = bitcast<u32>(last.value - normaliser);
      }
    }
  }
  if (IS_FOLLOWED && (flags & IS_EDITED) != 0u) {
    let edits = table[row + ROW_EDITS];
    for (var i = lanes.lane; i < table[row + ROW_EDIT_COUNT]; i += WORKGROUP) {
      if (table[edits + i * EDIT_WORDS + EDIT_ID] == token) { atomicStore(&shared_edit, i); }
    }
  }
  workgroupBarrier();
  if (lanes.lane != 0u) { return; }
  chosen[out] = token;
  if (!IS_FOLLOWED) { return; }
  if ((flags & IS_EDITED) != 0u) {
    var i = atomicLoad(&shared_edit);
    if (i == NO_ID) {
      i = table[row + ROW_EDIT_COUNT];
      table[row + ROW_EDIT_COUNT] = i + 1u;
      let added = table[row + ROW_EDITS] + i * EDIT_WORDS;
      table[added + EDIT_ID] = token;
      table[added + EDIT_BIAS] = 0u;
      table[added + EDIT_COUNT] = 0u;
      table[added + EDIT_MARKS] = 0u;
    }
    let edit = table[row + ROW_EDITS] + i * EDIT_WORDS;
    table[edit + EDIT_COUNT] += 1u;
    table[edit + EDIT_MARKS] |= MARK_SEEN;
  }
  table[row + ROW_PLACE] += 1u;
  table[row + ROW_CHOSEN] += 1u;
  for (var view = 0u; view < 2u; view++) {
    step[step[view * VIEW_WORDS + VIEW_TOKENS] + group_id.y] = token;
    step[step[view * VIEW_WORDS + VIEW_POSITIONS] + group_id.y] += 1u;
  }
}
