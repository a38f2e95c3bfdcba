// The least likely token that a row may draw, by top_k and then top_p: found digit by digit of the logits' bits, then of the ids where logits are equal, with
// no sort. Sums are whole numbers, of 2^-28 of the likeliest token's weight, so that they come out the same in any order.

@group(0) @binding(5) var<storage, read_write> cuts: array<vec2<u32>>; // (rows): key, id

const DIGITS = 256u;
// A weight's upper and lower 14 bits are added up apart: so many fit 32 bits for 2^18 tokens.
const HALF_BITS = 14u;
const ONE = 268435456.0;
const NO_CUT = vec2<u32>(0u, NO_ID);

var<workgroup> uppers: array<atomic<u32>, DIGITS>;
var<workgroup> lowers: array<atomic<u32>, DIGITS>;

struct Search {
  prefix: u32,
  // What is still to be reached, 64 bits, low word first; and what the digit last found comes to.
  missing: vec2<u32>,
  found: vec2<u32>,
  is_reached: u32,
}
var<workgroup> shared_search: Search;

fn sum64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn difference64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// ⌈total · share / 2^32⌉, at least 1, for totals below 2^47.
fn share64(total: vec2<u32>, share: u32) -> vec2<u32> {
  let halves = vec4<u32>(total.x & 0xffffu, total.x >> 16u, total.y, 0u);
  let low = share & 0xffffu;
  let high = share >> 16u;
  // total.x · share, then total.y · share, both / 2^32, their rests rounded up together.
  let a = halves.x * low;
  let b = halves.x * high + (a >> 16u);
  let c = halves.y * low + (b & 0xffffu);
  let rest = (c << 16u) | (a & 0xffffu);
  let up = halves.y * high + (b >> 16u) + (c >> 16u);
  let product = vec2<u32>(halves.z * low, 0u);
  let upper = halves.z * high;
  var sum = sum64(vec2<u32>(up, 0u), product);
  sum = sum64(sum, vec2<u32>(upper << 16u, upper >> 16u));
  if (rest != 0u) { sum = sum64(sum, vec2<u32>(1u, 0u)); }
  if (sum.x == 0u && sum.y == 0u) { return vec2<u32>(1u, 0u); }
  return sum;
}

fn of_digit(digit: u32) -> vec2<u32> {
  let upper = atomicLoad(&uppers[digit]);
  return sum64(vec2<u32>(upper << HALF_BITS, upper >> (32u - HALF_BITS)), vec2<u32>(atomicLoad(&lowers[digit]), 0u));
}

struct Tokens {
  is_edited: bool,
  origin: u32,
  top: f32,
  scale: f32,
  reach: f32,
  // Those that an earlier search has left.
  cut: vec2<u32>,
}

fn is_in(tokens: Tokens, value: f32, key: u32, id: u32) -> bool {
  return tokens.top - value <= tokens.reach && (key > tokens.cut.x || (key == tokens.cut.x && id <= tokens.cut.y));
}

// 1, or its weight.
fn measure(tokens: Tokens, value: f32, is_weighed: bool) -> u32 {
  if (!is_weighed) { return 1u; }
  return u32(exp((value - tokens.top) * tokens.scale) * ONE + 0.5);
}

fn clear(lane: u32) {
  for (var i = lane; i < DIGITS; i += WORKGROUP) {
    atomicStore(&uppers[i], 0u);
    atomicStore(&lowers[i], 0u);
  }
}

fn add(digit: u32, weight: u32) {
  let upper = weight >> HALF_BITS;
  let lower = weight & ((1u << HALF_BITS) - 1u);
  if (upper != 0u) { atomicAdd(&uppers[digit], upper); }
  if (lower != 0u) { atomicAdd(&lowers[digit], lower); }
}

// By one lane: the digit at which what is missing is reached, going down or up.
fn pick(search: Search, shift: u32, is_down: bool) -> Search {
  var next = search;
  next.is_reached = 0u;
  for (var i = 0u; i < DIGITS; i++) {
    let digit = select(i, DIGITS - 1u - i, is_down);
    let found = of_digit(digit);
    if (!less64(found, next.missing)) {
      next.prefix |= digit << shift;
      next.found = found;
      next.is_reached = 1u;
      return next;
    }
    next.missing = difference64(next.missing, found);
  }
  return next;
}

// The first token, by logit and then id, with which `target` is reached, a count or (is_weighed) a share of all weights; NO_CUT where none is.
fn cut_at(tokens: Tokens, is_weighed: bool, goal: u32, lane: u32) -> vec2<u32> {
  var search = Search(0u, vec2<u32>(goal, 0u), vec2<u32>(), 0u);
  for (var digit = 0u; digit < 4u; digit++) {
    let shift = 24u - 8u * digit;
    clear(lane);
    workgroupBarrier();
    for (var id = lane; id < params.cols; id += WORKGROUP) {
      let value = logit_at(tokens.is_edited, tokens.origin + id);
      let key = key_of(value);
      if (digit > 0u && (key >> (shift + 8u)) != (search.prefix >> (shift + 8u))) { continue; }
      if (is_in(tokens, value, key, id)) { add((key >> shift) & 255u, measure(tokens, value, is_weighed)); }
    }
    workgroupBarrier();
    if (lane == 0u) {
      if (is_weighed && digit == 0u) {
        var total = vec2<u32>();
        for (var i = 0u; i < DIGITS; i++) { total = sum64(total, of_digit(i)); }
        search.missing = share64(total, goal);
      }
      shared_search = pick(search, shift, true);
    }
    search = workgroupUniformLoad(&shared_search);
    if (search.is_reached == 0u) { return NO_CUT; }
  }
  // All of the equals are in?
  if (search.missing.x == search.found.x && search.missing.y == search.found.y) { return vec2<u32>(search.prefix, NO_ID); }
  let key = search.prefix;
  search.prefix = 0u;
  for (var digit = 0u; digit < 3u; digit++) {
    let shift = 16u - 8u * digit;
    clear(lane);
    workgroupBarrier();
    for (var id = lane; id < params.cols; id += WORKGROUP) {
      let value = logit_at(tokens.is_edited, tokens.origin + id);
      if (key_of(value) != key || (digit > 0u && (id >> (shift + 8u)) != (search.prefix >> (shift + 8u)))) { continue; }
      if (is_in(tokens, value, key, id)) { add((id >> shift) & 255u, measure(tokens, value, is_weighed)); }
    }
    workgroupBarrier();
    if (lane == 0u) { shared_search = pick(search, shift, false); }
    search = workgroupUniformLoad(&shared_search);
  }
  return vec2<u32>(key, search.prefix);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_id.y * ROW_WORDS;
  let flags = table[row + ROW_FLAGS];
  var cut = NO_CUT;
  if ((flags & IS_GREEDY) == 0u) {
    let scale = bitcast<f32>(table[row + ROW_SCALE]);
    let reach = bitcast<f32>(table[row + ROW_REACH]);
    var tokens = Tokens((flags & IS_EDITED) != 0u, group_id.y * params.stride, top_of(group_id.y), scale, reach, NO_CUT);
    let top_k = table[row + ROW_TOP_K];
    if (top_k != 0u) { tokens.cut = cut_at(tokens, false, top_k, lane); }
    cut = tokens.cut;
    if ((flags & HAS_TOP_P) != 0u) {
      cut = cut_at(tokens, true, table[row + ROW_TOP_P], lane);
      // All equals that were left to it.
      if (cut.x == tokens.cut.x) { cut.y = min(cut.y, tokens.cut.y); }
    }
  }
  if (lane == 0u) { cuts[group_id.y] = cut; }
}
