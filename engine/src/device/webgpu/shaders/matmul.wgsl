// Linear layers of many rows, in tiles of rows with one mixture: the mixture's changes are made to a tile of the matrix as it is brought to the
// workgroup's memory, so that they cost nothing for each row.

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

  let first_out = first_of(out_tile, segment);
  let brought = lane / 2u;
  let half = lane % 2u;
  let own = segment_of(segment, brought);
  let out = out_of(own, first_out, brought);

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
    let w = brought_weights(own, out, group, half, terms);
    let to = brought * STEP + half * 4u;
    w_tile[to] = w.f0;
    w_tile[to + 1u] = w.f1;
    w_tile[to + 2u] = w.f2;
    w_tile[to + 3u] = w.f3;
    workgroupBarrier();
    for (var quad = 0u; quad < QUADS; quad++) {
      let of_w = lane % OUT_LANES * STEP + quad;
      let four = mat4x4<f32>(w_tile[of_w], w_tile[of_w + OUT_LANES * STEP], w_tile[of_w + 2u * OUT_LANES * STEP], w_tile[of_w + 3u * OUT_LANES * STEP]);
      let of_x = lane / OUT_LANES * STEP + quad;
      s0 += x_tile[of_x] * four;
      s1 += x_tile[of_x + 8u * STEP] * four;
      s2 += x_tile[of_x + 16u * STEP] * four;
      s3 += x_tile[of_x + 24u * STEP] * four;
    }
    workgroupBarrier();
  }

  store(s0, 0u, segment, first_out, first, count, lane);
  store(s1, 8u, segment, first_out, first, count, lane);
  store(s2, 16u, segment, first_out, first, count, lane);
  store(s3, 24u, segment, first_out, first, count, lane);
}
