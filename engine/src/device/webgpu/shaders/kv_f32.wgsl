// The KV cache in F32.

@group(0) @binding(3) var<storage, read_write> cache: array<vec4<f32>>;

fn cached(quad: u32) -> vec4<f32> {
  return cache[quad];
}

fn keep(quad: u32, value: vec4<f32>) {
  cache[quad] = value;
}
