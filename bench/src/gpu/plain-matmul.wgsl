// A (m, k) times B (n, k), both in `Value`s, into sums in F32: 64 by 64 a workgroup, 32 columns at a time. What a matmul without experts, formats and tables
// of rows makes of an adapter.

@group(0) @binding(0) var<uniform> sizes: vec4<u32>; // m, n, k / 4
@group(0) @binding(1) var<storage, read> a: array<vec4<Value>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<Value>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // (m, n)

const SIDE = 64u;
const LANES = 256u;
const QUADS = 8u;
const STEP = QUADS + 1u;

var<workgroup> a_tile: array<vec4<Value>, SIDE * STEP>;
var<workgroup> b_tile: array<vec4<Value>, SIDE * STEP>;

fn products(x: vec4<Value>, y: mat4x4<Value>) -> vec4<f32> {
  return vec4<f32>(x * y);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let rows = sizes.x;
  let outs = sizes.y;
  let quads = sizes.z;
  let first_row = group_id.y * SIDE;
  let first_out = group_id.x * SIDE;
  let below = lane / 16u;
  let beside = lane % 16u;
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  var s2 = vec4<f32>();
  var s3 = vec4<f32>();
  for (var begin = 0u; begin < quads; begin += QUADS) {
    for (var i = lane; i < SIDE * QUADS; i += LANES) {
      let at = i / QUADS * STEP + i % QUADS;
      let quad = begin + i % QUADS;
      a_tile[at] = a[min(first_row + i / QUADS, rows - 1u) * quads + quad];
      b_tile[at] = b[min(first_out + i / QUADS, outs - 1u) * quads + quad];
    }
    workgroupBarrier();
    for (var quad = 0u; quad < QUADS; quad++) {
      let of_b = beside * STEP + quad;
      let four = mat4x4<Value>(b_tile[of_b], b_tile[of_b + 16u * STEP], b_tile[of_b + 32u * STEP], b_tile[of_b + 48u * STEP]);
      let of_a = below * STEP + quad;
      s0 += products(a_tile[of_a], four);
      s1 += products(a_tile[of_a + 16u * STEP], four);
      s2 += products(a_tile[of_a + 32u * STEP], four);
      s3 += products(a_tile[of_a + 48u * STEP], four);
    }
    workgroupBarrier();
  }
  put(s0, first_row + below, first_out + beside, rows, outs);
  put(s1, first_row + below + 16u, first_out + beside, rows, outs);
  put(s2, first_row + below + 32u, first_out + beside, rows, outs);
  put(s3, first_row + below + 48u, first_out + beside, rows, outs);
}

fn put(sums: vec4<f32>, row: u32, out: u32, rows: u32, outs: u32) {
  if (row >= rows) { return; }
  for (var i = 0u; i < 4u; i++) {
    if (out + 16u * i < outs) { c[row * outs + out + 16u * i] = sums[i]; }
  }
}
