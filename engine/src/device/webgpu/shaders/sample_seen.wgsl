// A row's logits once sample_adjust.wgsl has been over them.

@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read> adjusted: array<f32>;
@group(0) @binding(4) var<storage, read> peaks: array<vec4<u32>>;

fn logit_at(is_edited: bool, index: u32) -> f32 {
  if (is_edited) { return adjusted[index]; }
  return logits[index];
}

// By its chunks' largest.
fn top_of(row: u32) -> f32 {
  var top = LEAST;
  for (var i = 0u; i < params.chunks; i++) { top = max(top, bitcast<f32>(peaks[row * params.chunks + i].x)); }
  return top;
}

// Whole numbers in the logits' order.
fn key_of(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if (bits == 0x80000000u) { return 0x80000000u; } // −0 is 0
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}
