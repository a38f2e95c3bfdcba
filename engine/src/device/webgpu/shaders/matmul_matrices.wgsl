// matmul.wgsl on an adapter's matrix units: F16 products, F32 sums.

// The units' sizes: (M, K) times (K, N).
const M = 16u; // set by ../shader.ts
const N = 16u; // set by ../shader.ts
const K = 16u; // set by ../shader.ts
// Of a tile, that one subgroup computes at most.
const MOST_MATRICES = 8u; // set by ../shader.ts

const GROUP_COLUMNS = 32u;
// TILE_OUTS and TILE_ROWS as they are by default: the units load from arrays of known size only.
const OUTS = 64u;
const ROWS = 32u;
const LARGEST_HALF = vec4<f32>(65504.0);

var<workgroup> x_half: array<f16, ROWS * GROUP_COLUMNS>;
var<workgroup> w_half: array<f16, OUTS * GROUP_COLUMNS>;
var<workgroup> tile_sums: array<f32, ROWS * OUTS>;

fn put_x(at: u32, values: vec4<f32>) {
  let halves = vec4<f16>(clamp(values, -LARGEST_HALF, LARGEST_HALF));
  x_half[at] = halves.x;
  x_half[at + 1u] = halves.y;
  x_half[at + 2u] = halves.z;
  x_half[at + 3u] = halves.w;
}

fn put_w(at: u32, values: vec4<f32>) {
  let halves = vec4<f16>(values);
  w_half[at] = halves.x;
  w_half[at + 1u] = halves.y;
  w_half[at + 2u] = halves.z;
  w_half[at + 3u] = halves.w;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(num_workgroups) group_count: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
) {
  let tile_at = view_of(params.view, VIEW_TILES) + group_id.x * 2u;
  let first = view_of(params.view, VIEW_ROWS) + step[tile_at];
  let count = step[tile_at + 1u];
  let terms = terms_of(params.view, step[first]);
  let out_tile = group_id.y + group_id.z * group_count.y;
  let segment = segment_at(out_tile);
  let first_out = first_of(out_tile, segment);
  let brought = lane / 2u;
  let half = lane % 2u;
  let own = segment_of(segment, brought);
  let out = out_of(own, first_out, brought);
  let across = OUTS / N;
  let matrices = ROWS / M * across;

  var sums: array<subgroup_matrix_result<f32, N, M>, MOST_MATRICES>;
  for (var group = 0u; group < params.groups; group++) {
    for (var i = lane; i < ROWS * QUADS; i += LANES) {
      let r = i / QUADS;
      var values = vec4<f32>();
      if (r < count) { values = x[(step[first + r] * params.groups + group) * QUADS + i % QUADS]; }
      put_x(i * 4u, values);
    }
    let w = brought_weights(own, out, group, half, terms);
    let to = brought * GROUP_COLUMNS + half * 16u;
    put_w(to, w.f0);
    put_w(to + 4u, w.f1);
    put_w(to + 8u, w.f2);
    put_w(to + 12u, w.f3);
    workgroupBarrier();
    for (var n = 0u; n < MOST_MATRICES; n++) {
      let index = subgroup + n * subgroups;
      if (index < matrices) {
        for (var k = 0u; k < GROUP_COLUMNS; k += K) {
          let left = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>>(&x_half, index / across * M * GROUP_COLUMNS + k, false, GROUP_COLUMNS);
          let right = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>>(&w_half, index % across * N * GROUP_COLUMNS + k, true, GROUP_COLUMNS);
          sums[n] = subgroupMatrixMultiplyAccumulate(left, right, sums[n]);
        }
      }
    }
    workgroupBarrier();
  }
  for (var n = 0u; n < MOST_MATRICES; n++) {
    let index = subgroup + n * subgroups;
    if (index < matrices) {
      subgroupMatrixStore(&tile_sums, index / across * M * OUTS + index % across * N, sums[n], false, OUTS);
    }
  }
  workgroupBarrier();
  for (var below = 0u; below < ROWS; below += 8u) {
    let at = (lane / OUT_LANES + below) * OUTS + lane % OUT_LANES;
    let four = vec4<f32>(tile_sums[at], tile_sums[at + OUT_LANES], tile_sums[at + 2u * OUT_LANES], tile_sums[at + 3u * OUT_LANES]);
    store(four, below, segment, first_out, first, count, lane);
  }
}
