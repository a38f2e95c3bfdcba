// Sums over a workgroup's lanes, through its memory.

struct Lanes {
  @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partials: array<f32, SUMS * WORKGROUP>;

// This lane's part of sum `sum`, one of SUMS.
fn leave_partial(sum: u32, value: f32, lanes: Lanes) {
  partials[sum * WORKGROUP + lanes.lane] = value;
}

// After a barrier.
fn sum_of_partials(sum: u32, lanes: Lanes) -> f32 {
  var total = 0.0;
  for (var i = 0u; i < WORKGROUP; i++) { total += partials[sum * WORKGROUP + i]; }
  return total;
}
