// Gumbel noise as a function of key, counter and token: what kernels/src/native/gumbel.h computes, in 32 bits.

struct Product {
  low: u32,
  high: u32,
}

fn product(a: u32, b: u32) -> Product {
  let a_low = a & 0xffffu;
  let a_high = a >> 16u;
  let b_low = b & 0xffffu;
  let b_high = b >> 16u;
  let low = a_high * b_low + ((a_low * b_low) >> 16u);
  let middle = a_low * b_high + (low & 0xffffu);
  return Product(a * b, a_high * b_high + (low >> 16u) + (middle >> 16u));
}

// Philox4x32-10 (Salmon et al. 2011).
fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
  var words = counter;
  var key = seed;
  for (var round = 0u; round < 10u; round++) {
    let a = product(0xd2511f53u, words.x);
    let b = product(0xcd9e8d57u, words.z);
    words = vec4<u32>(b.high ^ words.y ^ key.x, b.low, a.high ^ words.w ^ key.y, a.low);
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return words;
}

// atanh, for |x| ≤ 1/3, to float32's precision.
fn small_atanh(x: f32) -> f32 {
  let square = x * x;
  var sum = 1.0 / 17.0;
  sum = sum * square + 1.0 / 15.0;
  sum = sum * square + 1.0 / 13.0;
  sum = sum * square + 1.0 / 11.0;
  sum = sum * square + 1.0 / 9.0;
  sum = sum * square + 1.0 / 7.0;
  sum = sum * square + 1.0 / 5.0;
  sum = sum * square + 1.0 / 3.0;
  return x + x * square * sum;
}

// ln of a normal number: how good the built-in one is, drivers differ in.
fn ln(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  var exponent = f32(bits >> 23u) - 127.0;
  var mantissa = bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
  if (mantissa > 1.4142135) {
    mantissa *= 0.5;
    exponent += 1.0;
  }
  return exponent * 0.6931472 + 2.0 * small_atanh((mantissa - 1.0) / (mantissa + 1.0));
}

const TO_UNIT = 2.3283064365386963e-10; // 2^-32

// −ln(−ln u) with u = 1 − (word + ½) / 2^32: a small word is a large value.
fn gumbel_of(word: u32) -> f32 {
  let share = (f32(word) + 0.5) * TO_UNIT;
  var exponential = 2.0 * small_atanh(share / (2.0 - share));
  if (share > 0.5) { exponential = -ln((f32(~word) + 0.5) * TO_UNIT); }
  return -ln(exponential);
}
