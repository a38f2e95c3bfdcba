// What a workgroup's lanes find together, through its memory. To be called by all lanes.

struct Lanes {
  @builtin(local_invocation_index) lane: u32,
}

var<workgroup> part_values: array<f32, WORKGROUP>;
var<workgroup> part_ids: array<u32, WORKGROUP>;

// The largest, of equals the one with the lowest id.
fn largest_of(found: Found, lanes: Lanes) -> Found {
  part_values[lanes.lane] = found.value;
  part_ids[lanes.lane] = found.id;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (lanes.lane < half) {
      let other = Found(part_values[lanes.lane + half], part_ids[lanes.lane + half]);
      let best = larger_of(Found(part_values[lanes.lane], part_ids[lanes.lane]), other);
      part_values[lanes.lane] = best.value;
      part_ids[lanes.lane] = best.id;
    }
    workgroupBarrier();
  }
  let best = Found(part_values[0], part_ids[0]);
  workgroupBarrier();
  return best;
}

fn sum_of(value: f32, lanes: Lanes) -> f32 {
  part_values[lanes.lane] = value;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (lanes.lane < half) { part_values[lanes.lane] += part_values[lanes.lane + half]; }
    workgroupBarrier();
  }
  let total = part_values[0];
  workgroupBarrier();
  return total;
}
