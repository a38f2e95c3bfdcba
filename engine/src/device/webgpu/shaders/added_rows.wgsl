// Logits beyond the base's vocabulary: of tokens that a row's expert added, and −∞ beyond them.

struct Params {
  groups: u32,
  view: u32,
  first: u32, // column
  cols: u32,
  table: u32,
  out_stride: u32,
  nothing: f32, // −∞, which WGSL can't spell
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

override WORKGROUP: u32 = 64u;
const SUMS = 1u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.x;
  let token = group_id.y;
  let terms = terms_of(params.view, row);
  var begin = NONE;
  for (var term = terms.begin; term < terms.end; term++) {
    let entry = delta_of(params.table, term_slot(terms, term));
    if (entry == 0u) { continue; }
    if (token < deltas[entry + DELTA_ADDED_ROWS]) { begin = deltas[entry + DELTA_ADDED] + token * params.groups * 16u; }
  }
  var sum = 0.0;
  if (begin != NONE) {
    for (var i = lanes.lane; i < params.groups * 8u; i += WORKGROUP) {
      sum += dot(x[row * params.groups * 8u + i], brains(deltas[begin + i * 2u], deltas[begin + i * 2u + 1u]));
    }
  }
  leave_partial(0u, sum, lanes);
  workgroupBarrier();
  if (lanes.lane == 0u) {
    out[row * params.out_stride + params.first + token] = select(params.nothing, sum_of_partials(0u, lanes), begin != NONE);
  }
}
