// How a base matrix is held (written by ../pack.ts): rows of whole groups of 32 columns, zeros beyond the last.

@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;

// 0 BF16, 1 F16, 2 F32, 3 q8, 4 q4.
override FORMAT: u32 = 0u;
override IS_QUANTIZED: bool = FORMAT >= 3u;

// Fours of columns in a vec4, and vec4s in a group.
fn quads_of_vector() -> u32 {
  return select(select(select(2u, 1u, FORMAT == 2u), 4u, FORMAT == 3u), 8u, FORMAT == 4u);
}

fn vectors_of_group() -> u32 {
  return 8u / quads_of_vector();
}

// Four columns of a vec4, without their scale.
fn quad_of(v: vec4<u32>, quad: u32) -> vec4<f32> {
  switch (FORMAT) {
    case 0u: {
      let pair = select(v.xy, v.zw, quad == 1u);
      return brains(pair.x, pair.y);
    }
    case 1u: {
      let pair = select(v.xy, v.zw, quad == 1u);
      return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
    }
    case 2u: { return bitcast<vec4<f32>>(v); }
    case 3u: { return vec4<f32>(unpack4xI8(v[quad])); }
    default: {
      let nibbles = (vec4<u32>(v[quad >> 1u] >> ((quad & 1u) * 16u)) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
      return vec4<f32>(nibbles) - 8.0;
    }
  }
}

// Of group `group`, counted over all rows; F16 values begin at vec4 `begin`.
fn scale_of(begin: u32, group: u32) -> f32 {
  let pair = unpack2x16float(weights[begin + (group >> 3u)][(group >> 1u) & 3u]);
  return select(pair.x, pair.y, (group & 1u) == 1u);
}
