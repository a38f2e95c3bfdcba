// What happens to queries, keys and values between their matrices and attention: norm over a head, rotation, and into the cache.

struct Part {
  heads: u32,
  stride: u32, // floats
  norm: u32, // in the vectors; NONE
  table: u32, // of the norm's delta
  eps: f32,
  is_rotated: u32,
  layer: u32, // first quad in the cache of what is to be kept; NONE
  first: u32, // the first workgroup along y that is its own
}

struct Params {
  view: u32,
  parts: u32,
  sines: u32, // where sines begin in the table
  pad: u32,
  part: array<Part, 3>,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> angles: array<f32>; // cosines then sines, each (positions, HEAD_DIM / 2)
@group(0) @binding(6) var<storage, read_write> x0: array<f32>;
@group(0) @binding(7) var<storage, read_write> x1: array<f32>;
@group(0) @binding(8) var<storage, read_write> x2: array<f32>;

override WORKGROUP: u32 = 32u;
const SUMS = 1u;
var<workgroup> head_values: array<f32, HEAD_QUADS * 4u>;

fn value_at(part: u32, i: u32) -> f32 {
  switch (part) {
    case 0u: { return x0[i]; }
    case 1u: { return x1[i]; }
    default: { return x2[i]; }
  }
}

fn put(part: u32, i: u32, value: f32) {
  switch (part) {
    case 0u: { x0[i] = value; }
    case 1u: { x1[i] = value; }
    default: { x2[i] = value; }
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, lanes: Lanes) {
  let row = group_id.x;
  var part = 0u;
  for (var i = 1u; i < params.parts; i++) {
    if (group_id.y >= params.part[i].first) { part = i; }
  }
  let head = group_id.y - params.part[part].first;
  let begin = row * params.part[part].stride + head * HEAD_DIM;
  let position = step[view_of(params.view, VIEW_POSITIONS) + row];
  let norm = params.part[part].norm;

  var squares = 0.0;
  for (var i = lanes.lane; i < HEAD_QUADS * 4u; i += WORKGROUP) {
    var value = 0.0;
    if (i < HEAD_DIM) { value = value_at(part, begin + i); }
    head_values[i] = value;
    squares += value * value;
  }
  if (norm != NONE) {
    leave_partial(0u, squares, lanes);
    workgroupBarrier();
    let scale = inverseSqrt(sum_of_partials(0u, lanes) / f32(HEAD_DIM) + params.part[part].eps);
    let terms = terms_of(params.view, row);
    for (var i = lanes.lane; i < HEAD_DIM; i += WORKGROUP) {
      head_values[i] *= scale * vector_seen(norm, params.part[part].table, i, terms);
    }
  }
  workgroupBarrier();
  if (params.part[part].is_rotated == 1u) {
    for (var i = lanes.lane; i < HEAD_DIM / 2u; i += WORKGROUP) {
      let angle = position * (HEAD_DIM / 2u) + i;
      let c = angles[angle];
      let s = angles[params.sines + angle];
      let a = head_values[i];
      let b = head_values[HEAD_DIM / 2u + i];
      head_values[i] = a * c - b * s;
      head_values[HEAD_DIM / 2u + i] = b * c + a * s;
    }
  }
  workgroupBarrier();
  if (norm != NONE || params.part[part].is_rotated == 1u) {
    for (var i = lanes.lane; i < HEAD_DIM; i += WORKGROUP) { put(part, begin + i, head_values[i]); }
  }
  let layer = params.part[part].layer;
  if (layer != NONE) {
    let table = step[view_of(params.view, VIEW_TABLES) + row];
    let at = cache_at(layer, table, position, head);
    for (var quad = lanes.lane; quad < HEAD_QUADS; quad += WORKGROUP) {
      let i = quad * 4u;
      keep(at + quad, vec4<f32>(head_values[i], head_values[i + 1u], head_values[i + 2u], head_values[i + 3u]));
    }
  }
}
