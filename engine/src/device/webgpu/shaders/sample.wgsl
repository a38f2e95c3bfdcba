// What choosing tokens has in common: each row of logits has its own parameters (written by ../sampling/row-table.ts). engine/src/sampling/sampler.ts is what
// all of it is tested against.

struct Params {
  cols: u32,
  stride: u32, // floats of a row of logits
  chunks: u32, // of a row, of CHUNK tokens each
  rows: u32, // that there is room for
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;

override WORKGROUP: u32 = 256u;
const CHUNK = 2048u;
const NO_ID = 0xffffffffu;
// Below every logit that can be chosen.
const LEAST = -3.4e38;

// Words of a row's parameters.
const ROW_WORDS = 20u;
const ROW_FLAGS = 0u;
const ROW_SCALE = 1u; // f32: 1 / temperature
const ROW_REACH = 2u; // f32: how far below the largest a logit may lie (min_p)
const ROW_TOP_K = 3u; // 0: all
const ROW_TOP_P = 4u; // of 2^32; read where IS_CUT says so
const ROW_KEY = 5u; // seed, low and high word
const ROW_CHOICE = 7u;
const ROW_PLACE = 8u; // of the next token in its answer
const ROW_MIN_TOKENS = 9u;
const ROW_EDITS = 10u; // where they begin in `table`
const ROW_EDIT_COUNT = 11u;
const ROW_REPETITION = 12u; // f32
const ROW_PRESENCE = 13u; // f32
const ROW_FREQUENCY = 14u; // f32
const ROW_ALTERNATIVES = 15u;
const ROW_CHOSEN = 16u; // tokens since the host last wrote

// Flags of a row.
const IS_GREEDY = 1u;
const IS_EDITED = 2u;
const IS_SCORED = 4u;
const HAS_TOP_P = 8u;

// Words of an edit: what happens to one token's logit.
const EDIT_WORDS = 4u;
const EDIT_ID = 0u;
const EDIT_BIAS = 1u; // f32
const EDIT_COUNT = 2u; // how often it stands in the answer
const EDIT_MARKS = 3u;
const MARK_SEEN = 1u; // in prompt or answer
const MARK_STOP = 2u;

struct Found {
  value: f32,
  id: u32,
}

fn larger_of(a: Found, b: Found) -> Found {
  if (b.value > a.value || (b.value == a.value && b.id < a.id)) { return b; }
  return a;
}
