// The KV cache in F16.

@group(0) @binding(3) var<storage, read_write> cache: array<vec2<u32>>;

fn cached(quad: u32) -> vec4<f32> {
  let words = cache[quad];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn keep(quad: u32, value: vec4<f32>) {
  cache[quad] = vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}
