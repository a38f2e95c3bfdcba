// What a workgroup's lanes find together: within subgroups, of whatever size, then over them. To be called by all lanes.

struct Lanes {
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
}

// WebGPU's subgroups have four lanes or more.
override MOST_PARTS: u32 = WORKGROUP / 4u;
var<workgroup> part_values: array<f32, MOST_PARTS>;
var<workgroup> part_ids: array<u32, MOST_PARTS>;

// The largest, of equals the one with the lowest id.
fn largest_of(found: Found, lanes: Lanes) -> Found {
  let most = subgroupMax(found.value);
  let id = subgroupMin(select(NO_ID, found.id, found.value == most));
  if (subgroupElect()) {
    part_values[lanes.subgroup] = most;
    part_ids[lanes.subgroup] = id;
  }
  workgroupBarrier();
  var best = Found(part_values[0], part_ids[0]);
  for (var i = 1u; i < lanes.subgroups; i++) { best = larger_of(best, Found(part_values[i], part_ids[i])); }
  workgroupBarrier();
  return best;
}

fn sum_of(value: f32, lanes: Lanes) -> f32 {
  let part = subgroupAdd(value);
  if (subgroupElect()) { part_values[lanes.subgroup] = part; }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < lanes.subgroups; i++) { total += part_values[i]; }
  workgroupBarrier();
  return total;
}
