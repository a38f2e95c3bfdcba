// Sums over a workgroup's lanes: within subgroups, of whatever size, then over them.

struct Lanes {
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
}

// WebGPU's subgroups have four lanes or more.
override MOST_SUBGROUPS: u32 = WORKGROUP / 4u;
var<workgroup> partials: array<f32, SUMS * MOST_SUBGROUPS>;

// This lane's part of sum `sum`, one of SUMS.
fn leave_partial(sum: u32, value: f32, lanes: Lanes) {
  let total = subgroupAdd(value);
  if (subgroupElect()) { partials[sum * MOST_SUBGROUPS + lanes.subgroup] = total; }
}

// After a barrier.
fn sum_of_partials(sum: u32, lanes: Lanes) -> f32 {
  var total = 0.0;
  for (var i = 0u; i < lanes.subgroups; i++) { total += partials[sum * MOST_SUBGROUPS + i]; }
  return total;
}
