// Linear layers of a few rows: a workgroup reads OUTS rows of a matrix once for ROWS rows of x, then what each row's experts change.

override WORKGROUP: u32 = 64u;
const ROWS = 1u; // set by ../shader.ts
const OUTS = 4u; // set by ../shader.ts
const HALVES = 1u; // set by ../shader.ts: 2 where gate and up are computed together, each half of the outputs
const HALF = OUTS / HALVES;
const SUMS = ROWS * OUTS;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(num_workgroups) group_count: vec3<u32>,
  lanes: Lanes,
) {
  let lane = lanes.lane;
  let rows = rows_of(params.view);
  let first_row = group_id.x * ROWS;
  let tile = group_id.y + group_id.z * group_count.y;
  let segment = segment_at(tile);
  var first_out: u32;
  if (HALVES == 2u) { first_out = tile * HALF; } else { first_out = (tile - params.segment[segment].first_tile) * OUTS; }
  // Rows and outputs beyond the last are computed like the last, and not stored.
  var x_row: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) { x_row[r] = min(first_row + r, rows - 1u) * params.groups * 8u; }
  var out: array<u32, OUTS>;
  var begin: array<u32, OUTS>;
  let row_vectors = params.groups * vectors_of_group();
  for (var o = 0u; o < OUTS; o++) {
    let own = segment_of(segment, o);
    out[o] = min(first_out + o % HALF, params.segment[own].outs - 1u);
    begin[o] = params.segment[own].weights + out[o] * row_vectors;
  }

  var sums: array<f32, SUMS>;
  for (var i = lane; i < row_vectors; i += WORKGROUP) {
    var w: array<vec4<u32>, OUTS>;
    var scale: array<f32, OUTS>;
    for (var o = 0u; o < OUTS; o++) {
      w[o] = weights[begin[o] + i];
      if (IS_QUANTIZED) {
        scale[o] = scale_of(params.segment[segment_of(segment, o)].scales, out[o] * params.groups + i / vectors_of_group());
      }
    }
    for (var quad = 0u; quad < quads_of_vector(); quad++) {
      var values: array<vec4<f32>, ROWS>;
      for (var r = 0u; r < ROWS; r++) { values[r] = x[x_row[r] + i * quads_of_vector() + quad]; }
      for (var o = 0u; o < OUTS; o++) {
        var four = quad_of(w[o], quad);
        if (IS_QUANTIZED) { four *= scale[o]; }
        for (var r = 0u; r < ROWS; r++) { sums[o * ROWS + r] += dot(four, values[r]); }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first_row + r >= rows) { break; }
    let terms = terms_of(params.view, first_row + r);
    for (var term = terms.begin; term < terms.end; term++) {
      let slot = term_slot(terms, term);
      for (var half = 0u; half < HALVES; half++) {
        let own = segment_of(segment, half * HALF);
        let entry = delta_of(params.segment[own].table, slot);
        if (entry == 0u) { continue; }
        var changed = changes(entry, own, half, &out, x_row[r], lane);
        let weight = term_weight(terms, term);
        for (var o = 0u; o < HALF; o++) { sums[(half * HALF + o) * ROWS + r] += weight * changed[o]; }
      }
    }
  }

  for (var sum = 0u; sum < SUMS; sum++) { leave_partial(sum, sums[sum], lanes); }
  workgroupBarrier();
  if (HALVES == 2u) {
    for (var i = lane; i < SUMS / 2u; i += WORKGROUP) {
      let o = i / ROWS;
      let row = first_row + i % ROWS;
      if (row < rows && first_out + o < params.segment[0].outs) {
        finish_swiglu(first_out + o, row, sum_of_partials(i, lanes), sum_of_partials(i + SUMS / 2u, lanes));
      }
    }
  } else {
    for (var i = lane; i < SUMS; i += WORKGROUP) {
      let o = i / ROWS;
      let row = first_row + i % ROWS;
      if (row < rows && first_out + o < params.segment[segment].outs) {
        finish(segment, first_out + o, row, sum_of_partials(i, lanes));
      }
    }
  }
}

// The second half of a workgroup's outputs is the up's, where gate and up are computed together.
fn segment_of(segment: u32, o: u32) -> u32 {
  return select(segment, o / HALF, HALVES == 2u);
}

// What this lane's columns of a delta add to one half of the outputs, for one row of x.
fn changes(entry: u32, segment: u32, half: u32, outs: ptr<function, array<u32, OUTS>>, x_row: u32, lane: u32) -> array<f32, HALF> {
  var result: array<f32, HALF>;
  var row: array<u32, HALF>;
  for (var o = 0u; o < HALF; o++) { row[o] = (*outs)[half * HALF + o] + params.segment[segment].first_row; }
  let planes = deltas[entry + DELTA_PLANES];
  for (var plane = 0u; plane < planes; plane++) {
    let header = entry + DELTA_HEADER + plane * PLANE_WORDS;
    let signs = deltas[header + PLANE_SIGNS];
    let col_scale = deltas[header + PLANE_COL_SCALE];
    var part = array<f32, HALF>();
    for (var group = lane; group < params.groups; group += WORKGROUP) {
      var bits: array<u32, HALF>;
      for (var o = 0u; o < HALF; o++) { bits[o] = deltas[signs + row[o] * params.groups + group]; }
      for (var quad = 0u; quad < 8u; quad++) {
        var values = x[x_row + group * 8u + quad];
        if (col_scale != 0u) { values *= four_floats(col_scale + group * 32u + quad * 4u); }
        for (var o = 0u; o < HALF; o++) { part[o] += dot(signed_by(values, bits[o] >> (quad * 4u)), vec4<f32>(1.0)); }
      }
    }
    let row_scale = deltas[header + PLANE_ROW_SCALE];
    let row_step = deltas[header + PLANE_ROW_STEP];
    for (var o = 0u; o < HALF; o++) { result[o] += part[o] * delta_float(row_scale + row[o] * row_step); }
  }
  let exact = deltas[entry + DELTA_EXACT];
  if (exact != 0u) {
    for (var i = lane; i < params.groups * 8u; i += WORKGROUP) {
      let values = x[x_row + i];
      for (var o = 0u; o < HALF; o++) {
        let word = exact + row[o] * params.groups * 16u + i * 2u;
        result[o] += dot(values, brains(deltas[word], deltas[word + 1u]));
      }
    }
  }
  return result;
}

fn four_floats(begin: u32) -> vec4<f32> {
  return vec4<f32>(delta_float(begin), delta_float(begin + 1u), delta_float(begin + 2u), delta_float(begin + 3u));
}
