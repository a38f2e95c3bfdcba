// A chunk of a row of logits after bias and penalties, its largest, and what its share of softmax's sum is.

@group(0) @binding(2) var<storage, read> table: array<u32>; // rows, then edits
@group(0) @binding(3) var<storage, read_write> adjusted: array<f32>; // as logits; only of rows with edits
@group(0) @binding(4) var<storage, read_write> peaks: array<vec4<u32>>; // (rows, chunks): bits of the largest, its id, bits of the largest before and of its share of the sum

fn edited(logit: f32, row: u32, edit: u32) -> f32 {
  var value = logit + bitcast<f32>(table[edit + EDIT_BIAS]);
  let marks = table[edit + EDIT_MARKS];
  if ((marks & MARK_SEEN) != 0u) {
    let repetition = bitcast<f32>(table[row + ROW_REPETITION]);
    value = select(value * repetition, value / repetition, value > 0.0);
  }
  let count = table[edit + EDIT_COUNT];
  if (count > 0u) {
    value -= bitcast<f32>(table[row + ROW_FREQUENCY]) * f32(count);
    value -= bitcast<f32>(table[row + ROW_PRESENCE]);
  }
  if ((marks & MARK_STOP) != 0u && table[row + ROW_PLACE] < table[row + ROW_MIN_TOKENS]) { value = bitcast<f32>(MINUS_INFINITY); }
  return value;
}

// In memory, as WGSL has no such constant.
var<private> MINUS_INFINITY: u32 = 0xff800000u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.y * ROW_WORDS;
  let origin = group_id.y * params.stride;
  let begin = group_id.x * CHUNK;
  let end = min(begin + CHUNK, params.cols);
  let flags = table[row + ROW_FLAGS];
  let is_edited = (flags & IS_EDITED) != 0u;
  if (is_edited) {
    for (var id = begin + lanes.lane; id < end; id += WORKGROUP) { adjusted[origin + id] = logits[origin + id]; }
    storageBarrier();
    let edits = table[row + ROW_EDITS];
    for (var i = lanes.lane; i < table[row + ROW_EDIT_COUNT]; i += WORKGROUP) {
      let edit = edits + i * EDIT_WORDS;
      let id = table[edit + EDIT_ID];
      // A token has one edit at most.
      if (id >= begin && id < end) { adjusted[origin + id] = edited(logits[origin + id], row, edit); }
    }
    storageBarrier();
  }
  var best = Found(LEAST, NO_ID);
  var top = LEAST;
  for (var id = begin + lanes.lane; id < end; id += WORKGROUP) {
    let raw = logits[origin + id];
    var value = raw;
    if (is_edited) { value = adjusted[origin + id]; }
    if (value > best.value) { best = Found(value, id); }
    top = max(top, raw);
  }
  best = largest_of(best, lanes);
  var sum = 0.0;
  if ((flags & IS_SCORED) != 0u) {
    top = largest_of(Found(top, 0u), lanes).value;
    for (var id = begin + lanes.lane; id < end; id += WORKGROUP) { sum += exp(logits[origin + id] - top); }
    sum = sum_of(sum, lanes);
  }
  if (lanes.lane == 0u) { peaks[group_id.y * params.chunks + group_id.x] = vec4<u32>(bitcast<u32>(best.value), best.id, bitcast<u32>(top), bitcast<u32>(sum)); }
}
