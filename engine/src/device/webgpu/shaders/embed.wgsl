// A row of the embedding matrix for each row's token, with what its experts change, or a row that one of them added.

struct Params {
  groups: u32,
  view: u32,
  first: u32, // of the tokens whose rows this part of the matrix holds
  count: u32,
  tokens: u32, // of the whole matrix
  weights: u32, // first vec4
  scales: u32,
  table: u32,
  out_stride: u32, // floats
  cols: u32,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_id.x;
  let token = step[view_of(params.view, VIEW_TOKENS) + row];
  let terms = terms_of(params.view, row);
  let is_added = token >= params.tokens;
  // An added row is the last part's to write.
  let is_last = params.first + params.count == params.tokens;
  if (select(token < params.first || token >= params.first + params.count, !is_last, is_added)) { return; }
  for (var i = lane; i < params.groups * 8u; i += WORKGROUP) {
    var value = vec4<f32>();
    if (!is_added) { value = base_of(token - params.first, i); }
    for (var term = terms.begin; term < terms.end; term++) {
      let entry = delta_of(params.table, term_slot(terms, term));
      if (entry == 0u) { continue; }
      if (is_added) {
        // At most one expert of a mixture adds rows; its weight doesn't count.
        if (deltas[entry + DELTA_ADDED_ROWS] > 0u) {
          value = brains_at(deltas[entry + DELTA_ADDED], token - params.tokens, i);
        }
      } else {
        value += term_weight(terms, term) * change_of(entry, token, i);
      }
    }
    for (var k = 0u; k < 4u; k++) {
      if (i * 4u + k < params.cols) { out[row * params.out_stride + i * 4u + k] = value[k]; }
    }
  }
}

fn base_of(matrix_row: u32, quad: u32) -> vec4<f32> {
  let quads = quads_of_vector();
  let value = quad_of(weights[params.weights + (matrix_row * params.groups * 8u + quad) / quads], quad % quads);
  if (IS_QUANTIZED) { return value * scale_of(params.scales, matrix_row * params.groups + quad / 8u); }
  return value;
}

fn brains_at(begin: u32, matrix_row: u32, quad: u32) -> vec4<f32> {
  let word = begin + matrix_row * params.groups * 16u + quad * 2u;
  return brains(deltas[word], deltas[word + 1u]);
}

fn change_of(entry: u32, matrix_row: u32, quad: u32) -> vec4<f32> {
  var change = vec4<f32>();
  for (var plane = 0u; plane < deltas[entry + DELTA_PLANES]; plane++) {
    let header = entry + DELTA_HEADER + plane * PLANE_WORDS;
    var scale = vec4<f32>(delta_float(deltas[header + PLANE_ROW_SCALE] + matrix_row * deltas[header + PLANE_ROW_STEP]));
    let col_scale = deltas[header + PLANE_COL_SCALE];
    if (col_scale != 0u) {
      let at = col_scale + quad * 4u;
      scale *= vec4<f32>(delta_float(at), delta_float(at + 1u), delta_float(at + 2u), delta_float(at + 3u));
    }
    let bits = deltas[deltas[header + PLANE_SIGNS] + matrix_row * params.groups + quad / 8u];
    change += signed_by(scale, bits >> (quad % 8u * 4u));
  }
  let exact = deltas[entry + DELTA_EXACT];
  if (exact != 0u) { change += brains_at(exact, matrix_row, quad); }
  return change;
}
