// What both kernels for many rows share: tiles of rows with one mixture, what a lane brings of the matrix, changed by that mixture, and where its sums go.

// Lanes side by side, each with four outputs; and one above the other, each with four rows.
override OUT_LANES: u32 = 16u;
override ROW_LANES: u32 = 8u;
override LANES: u32 = OUT_LANES * ROW_LANES;
override TILE_OUTS: u32 = OUT_LANES * 4u;
override TILE_ROWS: u32 = ROW_LANES * 4u; // as ../step.ts has it
const QUADS = 8u; // of a group of 32 columns

// First output of a tile.
fn first_of(out_tile: u32, segment: u32) -> u32 {
  if (params.epilogue == SWIGLU) { return out_tile * (TILE_OUTS / 2u); }
  return (out_tile - params.segment[segment].first_tile) * TILE_OUTS;
}

// With gate and up together, the second half of a tile's outputs is the up's.
fn segment_of(segment: u32, below: u32) -> u32 {
  return select(segment, below / (TILE_OUTS / 2u), params.epilogue == SWIGLU);
}

// What is beyond the last output is brought like the last, and not stored.
fn out_of(segment: u32, first_out: u32, below: u32) -> u32 {
  let out = first_out + select(below, below % (TILE_OUTS / 2u), params.epilogue == SWIGLU);
  return min(out, params.segment[segment].outs - 1u);
}

// Sixteen columns of an output.
struct Brought {
  f0: vec4<f32>,
  f1: vec4<f32>,
  f2: vec4<f32>,
  f3: vec4<f32>,
}

// One half of a group of 32 columns, as rows of these terms see it.
fn brought_weights(segment: u32, out: u32, group: u32, half: u32, terms: Terms) -> Brought {
  let delta_row = out + params.segment[segment].first_row;
  let table = params.segment[segment].table;
  let at = out * params.groups + group;
  var scale = 1.0;
  if (IS_QUANTIZED) { scale = scale_of(params.segment[segment].scales, at); }
  let base = params.segment[segment].weights + at * vectors_of_group();
  var f0 = scale * base_quad(base, half * 4u);
  var f1 = scale * base_quad(base, half * 4u + 1u);
  var f2 = scale * base_quad(base, half * 4u + 2u);
  var f3 = scale * base_quad(base, half * 4u + 3u);
  for (var term = terms.begin; term < terms.end; term++) {
    let entry = delta_of(table, term_slot(terms, term));
    if (entry == 0u) { continue; }
    let weight = term_weight(terms, term);
    let planes = deltas[entry + DELTA_PLANES];
    for (var plane = 0u; plane < planes; plane++) {
      let header = entry + DELTA_HEADER + plane * PLANE_WORDS;
      let bits = deltas[deltas[header + PLANE_SIGNS] + delta_row * params.groups + group] >> (half * 16u);
      let row_scale = weight * delta_float(deltas[header + PLANE_ROW_SCALE] + delta_row * deltas[header + PLANE_ROW_STEP]);
      let col_scale = deltas[header + PLANE_COL_SCALE];
      let column = group * 32u + half * 16u;
      f0 += signed_by(column_scales(col_scale, column) * row_scale, bits);
      f1 += signed_by(column_scales(col_scale, column + 4u) * row_scale, bits >> 4u);
      f2 += signed_by(column_scales(col_scale, column + 8u) * row_scale, bits >> 8u);
      f3 += signed_by(column_scales(col_scale, column + 12u) * row_scale, bits >> 12u);
    }
    let exact = deltas[entry + DELTA_EXACT];
    if (exact != 0u) {
      let word = exact + (delta_row * params.groups + group) * 16u + half * 8u;
      f0 += weight * brains(deltas[word], deltas[word + 1u]);
      f1 += weight * brains(deltas[word + 2u], deltas[word + 3u]);
      f2 += weight * brains(deltas[word + 4u], deltas[word + 5u]);
      f3 += weight * brains(deltas[word + 6u], deltas[word + 7u]);
    }
  }
  return Brought(f0, f1, f2, f3);
}

// Four outputs of one of this lane's rows.
fn store(sums: vec4<f32>, below: u32, segment: u32, first_out: u32, first: u32, count: u32, lane: u32) {
  let r = lane / OUT_LANES + below;
  if (r >= count) { return; }
  let row = step[first + r];
  if (params.epilogue == SWIGLU) {
    for (var j = 0u; j < 2u; j++) {
      let out = first_out + lane % OUT_LANES + j * OUT_LANES;
      if (out < params.segment[0].outs) { finish_swiglu(out, row, sums[j], sums[j + 2u]); }
    }
  } else {
    for (var j = 0u; j < 4u; j++) {
      let out = first_out + lane % OUT_LANES + j * OUT_LANES;
      if (out < params.segment[segment].outs) { finish(segment, out, row, sums[j]); }
    }
  }
}

// Quad `quad` of a group that begins at vec4 `begin`, without its scale.
fn base_quad(begin: u32, quad: u32) -> vec4<f32> {
  return quad_of(weights[begin + quad / quads_of_vector()], quad % quads_of_vector());
}

fn column_scales(begin: u32, column: u32) -> vec4<f32> {
  if (begin == 0u) { return vec4<f32>(1.0); }
  let at = begin + column;
  return vec4<f32>(delta_float(at), delta_float(at + 1u), delta_float(at + 2u), delta_float(at + 3u));
}
