// Joins what attention's splits over the positions came to.

struct Params {
  heads: u32,
  out_stride: u32,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> splits: array<f32>; // as attention.wgsl leaves them
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

override WORKGROUP: u32 = 64u;
override SPLITS: u32 = 1u;
override HEAD_DIM: u32 = 64u;
override SPLIT_WORDS: u32 = (HEAD_DIM + 3u) / 4u * 4u + 2u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_id.x;
  let head = group_id.y;
  let begin = (row * params.heads + head) * SPLITS * SPLIT_WORDS;
  var most = -3e38;
  for (var split = 0u; split < SPLITS; split++) { most = max(most, splits[begin + (split + 1u) * SPLIT_WORDS - 2u]); }
  var total = 0.0;
  for (var split = 0u; split < SPLITS; split++) {
    let end = begin + (split + 1u) * SPLIT_WORDS;
    total += exp(splits[end - 2u] - most) * splits[end - 1u];
  }
  for (var i = lane; i < HEAD_DIM; i += WORKGROUP) {
    var sum = 0.0;
    for (var split = 0u; split < SPLITS; split++) {
      let at = begin + split * SPLIT_WORDS;
      sum += exp(splits[at + SPLIT_WORDS - 2u] - most) * splits[at + i];
    }
    out[row * params.out_stride + head * HEAD_DIM + i] = sum / total;
  }
}
