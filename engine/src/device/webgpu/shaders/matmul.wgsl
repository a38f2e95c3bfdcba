// Linear layers of many rows, in tiles of rows with one mixture: the mixture's changes are made to a tile of the matrix as it is brought to the
// workgroup's memory, so that they cost nothing for each row.

const LANES = 128u;
const TILE_ROWS = 32u; // as ../step.ts has it
const TILE_OUTS = 64u;
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

  var sums: array<vec4<f32>, 4>;
  for (var group = 0u; group < params.groups; group++) {
    for (var i = lane; i < TILE_ROWS * QUADS; i += LANES) {
      let r = i / QUADS;
      var values = vec4<f32>();
      if (r < count) { values = x[(step[first + r] * params.groups + group) * QUADS + i % QUADS]; }
      x_tile[r * STEP + i % QUADS] = values;
    }
    var four: array<vec4<f32>, 4>;
    let quads = quads_of_vector();
    let at = out * params.groups + group;
    var scale = 1.0;
    if (IS_QUANTIZED) { scale = scale_of(params.segment[own].scales, at); }
    for (var k = 0u; k < 4u; k++) {
      let quad = half * 4u + k;
      four[k] = scale * quad_of(weights[params.segment[own].weights + at * vectors_of_group() + quad / quads], quad % quads);
    }
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
        for (var k = 0u; k < 4u; k++) {
          var change = vec4<f32>(row_scale);
          if (col_scale != 0u) {
            let c = col_scale + group * 32u + half * 16u + k * 4u;
            change *= vec4<f32>(delta_float(c), delta_float(c + 1u), delta_float(c + 2u), delta_float(c + 3u));
          }
          four[k] += signed_by(change, bits >> (k * 4u));
        }
      }
      let exact = deltas[entry + DELTA_EXACT];
      if (exact != 0u) {
        let word = exact + (delta_row * params.groups + group) * 16u + half * 8u;
        for (var k = 0u; k < 4u; k++) { four[k] += weight * brains(deltas[word + k * 2u], deltas[word + k * 2u + 1u]); }
      }
    }
    for (var k = 0u; k < 4u; k++) { w_tile[brought * STEP + half * 4u + k] = four[k]; }
    workgroupBarrier();
    for (var quad = 0u; quad < QUADS; quad++) {
      var w: array<vec4<f32>, 4>;
      for (var j = 0u; j < 4u; j++) { w[j] = w_tile[(lane % 16u + j * 16u) * STEP + quad]; }
      for (var i = 0u; i < 4u; i++) {
        let values = x_tile[(lane / 16u + i * 8u) * STEP + quad];
        for (var j = 0u; j < 4u; j++) { sums[i][j] += dot(values, w[j]); }
      }
    }
    workgroupBarrier();
  }

  for (var i = 0u; i < 4u; i++) {
    let r = lane / 16u + i * 8u;
    if (r >= count) { break; }
    let row = step[first + r];
    if (params.epilogue == SWIGLU) {
      for (var j = 0u; j < 2u; j++) {
        let o = first_out + lane % 16u + j * 16u;
        if (o < params.segment[0].outs) { finish_swiglu(o, row, sums[i][j], sums[i][j + 2u]); }
      }
    } else {
      for (var j = 0u; j < 4u; j++) {
        let o = first_out + lane % 16u + j * 16u;
        if (o < params.segment[segment].outs) { finish(segment, o, row, sums[i][j]); }
      }
    }
  }
}
