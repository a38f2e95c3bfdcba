// RMS norm over consecutive groups of columns.

struct Params {
  view: u32,
  length: u32, // of a group, which is the weight's
  weight: u32, // in the vectors
  table: u32,
  x_stride: u32, // floats
  out_stride: u32,
  eps: f32,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

override WORKGROUP: u32 = 64u;
const SUMS = 1u;
// In place: WebGPU lets no buffer be bound twice where one may be written.
override IN_PLACE: bool = false;

fn value_at(i: u32) -> f32 {
  if (IN_PLACE) { return out[i]; }
  return x[i];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.x;
  let begin = group_id.y * params.length;
  let terms = terms_of(params.view, row);
  var squares = 0.0;
  for (var i = lanes.lane; i < params.length; i += WORKGROUP) {
    let value = value_at(row * params.x_stride + begin + i);
    squares += value * value;
  }
  leave_partial(0u, squares, lanes);
  workgroupBarrier();
  let scale = inverseSqrt(sum_of_partials(0u, lanes) / f32(params.length) + params.eps);
  for (var i = lanes.lane; i < params.length; i += WORKGROUP) {
    let value = value_at(row * params.x_stride + begin + i);
    out[row * params.out_stride + begin + i] = value * scale * vector_seen(params.weight, params.table, i, terms);
  }
}
