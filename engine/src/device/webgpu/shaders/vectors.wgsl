// Vector parameters as rows see them.

@group(0) @binding(2) var<storage, read> vectors: array<f32>;

// Value `i` of the vector that begins at `begin`, with what a row's mixture adds to it.
fn vector_seen(begin: u32, table: u32, i: u32, terms: Terms) -> f32 {
  var value = vectors[begin + i];
  for (var term = terms.begin; term < terms.end; term++) {
    let entry = delta_of(table, term_slot(terms, term));
    if (entry == 0u) { continue; }
    let exact = deltas[entry + DELTA_EXACT];
    if (exact != 0u) { value += term_weight(terms, term) * brain_at(exact, i); }
  }
  return value;
}
