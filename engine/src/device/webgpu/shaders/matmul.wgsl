// Linear layers of many rows, in tiles of rows with one mixture: the mixture's changes are made to a tile of the matrix as it is brought to the
// workgroup's memory, so that they cost nothing for each row.

// Groups of 32 columns that are brought at once.
override GROUPS: u32 = 1u;
override STEP: u32 = GROUPS * QUADS + 1u; // between rows in the workgroup's memory, so that lanes meet different banks

var<workgroup> x_tile: array<vec4<Element>, TILE_ROWS * STEP>;
var<workgroup> w_tile: array<vec4<Element>, TILE_OUTS * STEP>;

fn held(values: vec4<f32>) -> vec4<Element> {
  return vec4<Element>(clamp(values, -LARGEST, LARGEST));
}

fn products(x: vec4<Element>, four: mat4x4<Element>) -> vec4<f32> {
  return vec4<f32>(x * four);
}

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

  // Four rows of four outputs.
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  var s2 = vec4<f32>();
  var s3 = vec4<f32>();
  for (var group = 0u; group < params.groups; group += GROUPS) {
    let quads = min(GROUPS, params.groups - group) * QUADS;
    for (var i = lane; i < TILE_ROWS * GROUPS * QUADS; i += LANES) {
      let r = i / (GROUPS * QUADS);
      let quad = i % (GROUPS * QUADS);
      var values = vec4<f32>();
      if (r < count && quad < quads) { values = x[(step[first + r] * params.groups + group) * QUADS + quad]; }
      x_tile[r * STEP + quad] = held(values);
    }
    for (var i = lane; i < TILE_OUTS * GROUPS * 2u; i += LANES) {
      let brought = i / (GROUPS * 2u);
      let half = i % (GROUPS * 2u);
      // What is beyond the last group is zero in x.
      let of_group = min(group + half / 2u, params.groups - 1u);
      let own = segment_of(segment, brought);
      let w = brought_weights(own, out_of(own, first_out, brought), of_group, half % 2u, terms);
      let to = brought * STEP + half * 4u;
      w_tile[to] = held(w.f0);
      w_tile[to + 1u] = held(w.f1);
      w_tile[to + 2u] = held(w.f2);
      w_tile[to + 3u] = held(w.f3);
    }
    workgroupBarrier();
    for (var quad = 0u; quad < GROUPS * QUADS; quad++) {
      let of_w = lane % OUT_LANES * STEP + quad;
      let four = mat4x4<Element>(w_tile[of_w], w_tile[of_w + OUT_LANES * STEP], w_tile[of_w + 2u * OUT_LANES * STEP], w_tile[of_w + 3u * OUT_LANES * STEP]);
      let of_x = lane / OUT_LANES * STEP + quad;
      s0 += products(x_tile[of_x], four);
      s1 += products(x_tile[of_x + ROW_LANES * STEP], four);
      s2 += products(x_tile[of_x + 2u * ROW_LANES * STEP], four);
      s3 += products(x_tile[of_x + 3u * ROW_LANES * STEP], four);
    }
    workgroupBarrier();
  }

  store(s0, 0u, segment, first_out, first, count, lane);
  store(s1, ROW_LANES, segment, first_out, first, count, lane);
  store(s2, 2u * ROW_LANES, segment, first_out, first, count, lane);
  store(s3, 3u * ROW_LANES, segment, first_out, first, count, lane);
}
