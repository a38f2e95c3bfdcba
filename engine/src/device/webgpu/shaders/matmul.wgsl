// Linear layers of many rows, in tiles of rows with one mixture: the mixture's changes are made to a tile of the matrix as it is brought to the
// workgroup's memory, so that they cost nothing for each row.

const TILE_ROWS = 32u; // as ../step.ts has it
// Lanes side by side, each with four outputs of four rows; eight of them one above the other.
override OUT_LANES: u32 = 16u;
override LANES: u32 = OUT_LANES * 8u;
override TILE_OUTS: u32 = OUT_LANES * 4u;
const QUADS = 8u; // of a group of 32 columns
const STEP = QUADS + 1u; // between rows in the workgroup's memory, so that lanes meet different banks

var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * STEP>;
var<workgroup> w_tile: array<vec4<f32>, TILE_OUTS * STEP>;

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(num_workgroups) group_count: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile_at = view_of(params.view, VIEW_TILES) + group_id.x * 2u;
  let first = view_of(params.view, VIEW_TILE_ROWS) + step[tile_at];
  let count = step[tile_at + 1u];
  let terms = terms_of(params.view, step[first]);
  let out_tile = group_id.y + group_id.z * group_count.y;
  let segment = segment_at(out_tile);

  // Each lane brings half of a group of one output; with gate and up together, the second half of the outputs is the up's.
  let brought = lane / 2u;
  let half = lane % 2u;
  var own = segment;
  var first_out: u32;
  var out = brought;
  if (params.epilogue == SWIGLU) {
    first_out = out_tile * (TILE_OUTS / 2u);
    own = brought / (TILE_OUTS / 2u);
    out = brought % (TILE_OUTS / 2u);
  } else {
    first_out = (out_tile - params.segment[segment].first_tile) * TILE_OUTS;
  }
  out = min(first_out + out, params.segment[own].outs - 1u);
  let delta_row = out + params.segment[own].first_row;
  let table = params.segment[own].table;

  // Four rows of four outputs.
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  var s2 = vec4<f32>();
  var s3 = vec4<f32>();
  for (var group = 0u; group < params.groups; group++) {
    for (var i = lane; i < TILE_ROWS * QUADS; i += LANES) {
      let r = i / QUADS;
      var values = vec4<f32>();
      if (r < count) { values = x[(step[first + r] * params.groups + group) * QUADS + i % QUADS]; }
      x_tile[r * STEP + i % QUADS] = values;
    }
    let at = out * params.groups + group;
    var scale = 1.0;
    if (IS_QUANTIZED) { scale = scale_of(params.segment[own].scales, at); }
    let base = params.segment[own].weights + at * vectors_of_group();
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
    let to = brought * STEP + half * 4u;
    w_tile[to] = f0;
    w_tile[to + 1u] = f1;
    w_tile[to + 2u] = f2;
    w_tile[to + 3u] = f3;
    workgroupBarrier();
    for (var quad = 0u; quad < QUADS; quad++) {
      let of_w = lane % OUT_LANES * STEP + quad;
      let w = mat4x4<f32>(w_tile[of_w], w_tile[of_w + OUT_LANES * STEP], w_tile[of_w + 2u * OUT_LANES * STEP], w_tile[of_w + 3u * OUT_LANES * STEP]);
      let of_x = lane / OUT_LANES * STEP + quad;
      s0 += x_tile[of_x] * w;
      s1 += x_tile[of_x + 8u * STEP] * w;
      s2 += x_tile[of_x + 16u * STEP] * w;
      s3 += x_tile[of_x + 24u * STEP] * w;
    }
    workgroupBarrier();
  }

  store(s0, 0u, segment, first_out, first, count, lane);
  store(s1, 8u, segment, first_out, first, count, lane);
  store(s2, 16u, segment, first_out, first, count, lane);
  store(s3, 24u, segment, first_out, first, count, lane);
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
