// What a step says of its rows (written by ../step.ts), and what slots hold (written by ../slots.ts).

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read> deltas: array<u32>;

const NONE = 0xffffffffu;
// Words of a view of the step: all its rows, or those whose logits are wanted.
const VIEW_WORDS = 16u;
const VIEW_ROWS = 0u;
const VIEW_TOKENS = 1u;
const VIEW_POSITIONS = 2u;
const VIEW_TABLES = 3u; // by row: where its sequence's block table begins
const VIEW_TERMS = 4u; // by row: its first term; one entry more than rows
const VIEW_SLOTS = 5u; // by term
const VIEW_WEIGHTS = 6u; // by term, f32
const VIEW_TILES = 7u; // (first, count) of rows with one mixture, in VIEW_TILE_ROWS
const VIEW_TILE_ROWS = 8u;
const VIEW_QUERIES = 9u; // (first row, count) of a sequence's rows that attend together
const VIEW_SOURCES = 10u; // by row: its row in the whole step

// Words of a parameter's delta in a slot.
const DELTA_PLANES = 0u;
const DELTA_EXACT = 1u; // 0: none
const DELTA_ADDED_ROWS = 2u;
const DELTA_ADDED = 3u;
const DELTA_HEADER = 4u;
const PLANE_WORDS = 4u;
const PLANE_SIGNS = 0u;
const PLANE_ROW_SCALE = 1u;
const PLANE_ROW_STEP = 2u; // 0 where one scale is every row's
const PLANE_COL_SCALE = 3u; // 0: none

fn view_of(view: u32, field: u32) -> u32 {
  return step[view * VIEW_WORDS + field];
}

fn rows_of(view: u32) -> u32 {
  return view_of(view, VIEW_ROWS);
}

struct Terms {
  begin: u32,
  end: u32,
  slots: u32,
  weights: u32,
}

fn terms_of(view: u32, row: u32) -> Terms {
  let starts = view_of(view, VIEW_TERMS) + row;
  return Terms(step[starts], step[starts + 1u], view_of(view, VIEW_SLOTS), view_of(view, VIEW_WEIGHTS));
}

fn term_slot(terms: Terms, term: u32) -> u32 {
  return step[terms.slots + term];
}

fn term_weight(terms: Terms, term: u32) -> f32 {
  return bitcast<f32>(step[terms.weights + term]);
}

// Where a slot's delta of a parameter begins; 0 where it has none. `table` is the parameter's row in the table of deltas.
fn delta_of(table: u32, slot: u32) -> u32 {
  return deltas[table + slot];
}

fn delta_float(index: u32) -> f32 {
  return bitcast<f32>(deltas[index]);
}

// Value `i` of BF16 values that begin at a word.
fn brain_at(begin: u32, i: u32) -> f32 {
  let word = deltas[begin + (i >> 1u)];
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (i & 1u) == 1u));
}

// Four BF16 values in two words.
fn brains(word: u32, next: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(word << 16u, word & 0xffff0000u, next << 16u, next & 0xffff0000u));
}

// x with the signs that four bits give: + where one is 1.
fn signed_by(x: vec4<f32>, bits: u32) -> vec4<f32> {
  let flips = ~(vec4<u32>(bits) << vec4<u32>(31u, 30u, 29u, 28u)) & vec4<u32>(0x80000000u);
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ flips);
}
