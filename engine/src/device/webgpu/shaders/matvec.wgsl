// Linear layers of a few rows: four outputs at a time, a workgroup reads their rows of the matrix once for up to eight rows of x, then what each row's
// experts change. With gate and up together, two of the four are the up's.
//
// Written out instead of in loops over arrays: not every driver keeps an array's elements in registers.

override WORKGROUP: u32 = 64u;
// Rows of x: 1, 2, 4 or 8.
override ROWS: u32 = 1u;
// Fours of outputs that a workgroup computes, one after the other.
override PASSES: u32 = 1u;
override SUMS: u32 = ROWS * 4u;

// Of a four of outputs: the matrix each is in, its row there, and where that begins.
struct Four {
  segments: vec4<u32>,
  rows: vec4<u32>,
  begins: vec4<u32>,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) group_count: vec3<u32>, lanes: Lanes) {
  let tile = group_id.y + group_id.z * group_count.y;
  let segment = segment_at(tile);
  let is_pair = params.epilogue == SWIGLU;
  let step_outs = select(4u, 2u, is_pair);
  let first = (tile - params.segment[segment].first_tile) * PASSES * step_outs;
  for (var done = 0u; done < PASSES; done++) {
    let first_out = first + done * step_outs;
    // What is beyond the last output is computed like the last, and not stored.
    let outs = select(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(0u, 1u, 0u, 1u), is_pair) + first_out;
    let segments = select(vec4<u32>(segment), vec4<u32>(0u, 0u, 1u, 1u), is_pair);
    compute(group_id.x * ROWS, Four(segments, min(outs, vec4<u32>(params.segment[segment].outs - 1u)), vec4<u32>()), lanes);
    workgroupBarrier();
    for (var i = lanes.lane; i < SUMS; i += WORKGROUP) {
      let row = group_id.x * ROWS + i / 4u;
      let out = first_out + i % 4u;
      if (row >= rows_of(params.view)) { break; }
      if (is_pair) {
        if (i % 4u < 2u && out < params.segment[0].outs) {
          finish_swiglu(out, row, sum_of_partials(i, lanes), sum_of_partials(i + 2u, lanes));
        }
      } else if (out < params.segment[segment].outs) {
        finish(segment, out, row, sum_of_partials(i, lanes));
      }
    }
    workgroupBarrier();
  }
}

// Leaves this lane's part of the sums of four outputs of ROWS rows.
fn compute(first_row: u32, outs: Four, lanes: Lanes) {
  let row_vectors = params.groups * vectors_of_group();
  var four = outs;
  four.begins = weights_of(four.segments) + four.rows * row_vectors;
  let last_row = rows_of(params.view) - 1u;
  let x_stride = params.groups * 8u;
  let x0 = min(first_row, last_row) * x_stride;
  let x1 = min(first_row + 1u, last_row) * x_stride;
  let x2 = min(first_row + 2u, last_row) * x_stride;
  let x3 = min(first_row + 3u, last_row) * x_stride;
  let x4 = min(first_row + 4u, last_row) * x_stride;
  let x5 = min(first_row + 5u, last_row) * x_stride;
  let x6 = min(first_row + 6u, last_row) * x_stride;
  let x7 = min(first_row + 7u, last_row) * x_stride;
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  var s2 = vec4<f32>();
  var s3 = vec4<f32>();
  var s4 = vec4<f32>();
  var s5 = vec4<f32>();
  var s6 = vec4<f32>();
  var s7 = vec4<f32>();
  for (var i = lanes.lane; i < row_vectors; i += WORKGROUP) {
    let w0 = weights[four.begins.x + i];
    let w1 = weights[four.begins.y + i];
    let w2 = weights[four.begins.z + i];
    let w3 = weights[four.begins.w + i];
    var scales = vec4<f32>(1.0);
    if (IS_QUANTIZED) { scales = scales_of(four, i / vectors_of_group()); }
    for (var quad = 0u; quad < quads_of_vector(); quad++) {
      let w = mat4x4<f32>(
        quad_of(w0, quad) * scales.x,
        quad_of(w1, quad) * scales.y,
        quad_of(w2, quad) * scales.z,
        quad_of(w3, quad) * scales.w,
      );
      let at = i * quads_of_vector() + quad;
      s0 += x[x0 + at] * w;
      if (ROWS > 1u) { s1 += x[x1 + at] * w; }
      if (ROWS > 2u) {
        s2 += x[x2 + at] * w;
        s3 += x[x3 + at] * w;
      }
      if (ROWS > 4u) {
        s4 += x[x4 + at] * w;
        s5 += x[x5 + at] * w;
        s6 += x[x6 + at] * w;
        s7 += x[x7 + at] * w;
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    var sums = s0;
    switch (r) {
      case 0u: { sums = s0; }
      case 1u: { sums = s1; }
      case 2u: { sums = s2; }
      case 3u: { sums = s3; }
      case 4u: { sums = s4; }
      case 5u: { sums = s5; }
      case 6u: { sums = s6; }
      default: { sums = s7; }
    }
    if (first_row + r <= last_row) { sums += changes(four, first_row + r, lanes.lane); }
    leave_partial(r * 4u, sums.x, lanes);
    leave_partial(r * 4u + 1u, sums.y, lanes);
    leave_partial(r * 4u + 2u, sums.z, lanes);
    leave_partial(r * 4u + 3u, sums.w, lanes);
  }
}

fn weights_of(segments: vec4<u32>) -> vec4<u32> {
  let first = params.segment[segments.x].weights;
  let last = params.segment[segments.w].weights;
  return vec4<u32>(first, first, last, last);
}

fn scales_of(four: Four, group: u32) -> vec4<f32> {
  let first = params.segment[four.segments.x].scales;
  let last = params.segment[four.segments.w].scales;
  let at = four.rows * params.groups + group;
  return vec4<f32>(scale_of(first, at.x), scale_of(first, at.y), scale_of(last, at.z), scale_of(last, at.w));
}

// What this lane's columns of a row's experts add to four outputs.
fn changes(four: Four, row: u32, lane: u32) -> vec4<f32> {
  var sums = vec4<f32>();
  let terms = terms_of(params.view, row);
  let x_row = row * params.groups * 8u;
  let first = four.segments.x;
  let last = four.segments.w;
  let rows = four.rows + params.segment[first].first_row;
  for (var term = terms.begin; term < terms.end; term++) {
    let slot = term_slot(terms, term);
    let a = delta_of(params.segment[first].table, slot);
    let b = delta_of(params.segment[last].table, slot);
    let weight = term_weight(terms, term);
    let planes = max(planes_of(a), planes_of(b));
    for (var plane = 0u; plane < planes; plane++) {
      sums += weight * plane_sums(plane_of(a, plane), plane_of(b, plane), rows, x_row, lane);
    }
    if (exact_of(a) != 0u || exact_of(b) != 0u) { sums += weight * exact_sums(exact_of(a), exact_of(b), rows, x_row, lane); }
  }
  return sums;
}

struct Plane {
  exists: bool,
  signs: u32,
  row_scale: u32,
  row_step: u32,
  col_scale: u32,
}

fn planes_of(entry: u32) -> u32 {
  if (entry == 0u) { return 0u; }
  return deltas[entry + DELTA_PLANES];
}

fn exact_of(entry: u32) -> u32 {
  if (entry == 0u) { return 0u; }
  return deltas[entry + DELTA_EXACT];
}

fn plane_of(entry: u32, plane: u32) -> Plane {
  if (plane >= planes_of(entry)) { return Plane(false, 0u, 0u, 0u, 0u); }
  let header = entry + DELTA_HEADER + plane * PLANE_WORDS;
  return Plane(
    true,
    deltas[header + PLANE_SIGNS],
    deltas[header + PLANE_ROW_SCALE],
    deltas[header + PLANE_ROW_STEP],
    deltas[header + PLANE_COL_SCALE],
  );
}

// `a` is the first two outputs' plane, `b` the last two's.
fn plane_sums(a: Plane, b: Plane, rows: vec4<u32>, x_row: u32, lane: u32) -> vec4<f32> {
  var sums = vec4<f32>();
  let begins = select(vec4<u32>(a.signs, a.signs, b.signs, b.signs) + rows * params.groups, vec4<u32>(), !vec4<bool>(a.exists, a.exists, b.exists, b.exists));
  for (var group = lane; group < params.groups; group += WORKGROUP) {
    let b0 = deltas[begins.x + group];
    let b1 = deltas[begins.y + group];
    let b2 = deltas[begins.z + group];
    let b3 = deltas[begins.w + group];
    for (var quad = 0u; quad < 8u; quad++) {
      let values = x[x_row + group * 8u + quad];
      var of_a = values;
      var of_b = values;
      if (a.col_scale != 0u) { of_a *= four_floats(a.col_scale + group * 32u + quad * 4u); }
      if (b.col_scale != 0u) { of_b *= four_floats(b.col_scale + group * 32u + quad * 4u); }
      let shift = quad * 4u;
      sums += vec4<f32>(1.0) * mat4x4<f32>(
        signed_by(of_a, b0 >> shift),
        signed_by(of_a, b1 >> shift),
        signed_by(of_b, b2 >> shift),
        signed_by(of_b, b3 >> shift),
      );
    }
  }
  var scales = vec4<f32>();
  if (a.exists) {
    scales.x = delta_float(a.row_scale + rows.x * a.row_step);
    scales.y = delta_float(a.row_scale + rows.y * a.row_step);
  }
  if (b.exists) {
    scales.z = delta_float(b.row_scale + rows.z * b.row_step);
    scales.w = delta_float(b.row_scale + rows.w * b.row_step);
  }
  return sums * scales;
}

fn exact_sums(a: u32, b: u32, rows: vec4<u32>, x_row: u32, lane: u32) -> vec4<f32> {
  var sums = vec4<f32>();
  let begins = vec4<u32>(a, a, b, b) + rows * params.groups * 16u;
  for (var i = lane; i < params.groups * 8u; i += WORKGROUP) {
    let values = x[x_row + i];
    if (a != 0u) {
      sums.x += dot(values, brains(deltas[begins.x + i * 2u], deltas[begins.x + i * 2u + 1u]));
      sums.y += dot(values, brains(deltas[begins.y + i * 2u], deltas[begins.y + i * 2u + 1u]));
    }
    if (b != 0u) {
      sums.z += dot(values, brains(deltas[begins.z + i * 2u], deltas[begins.z + i * 2u + 1u]));
      sums.w += dot(values, brains(deltas[begins.w + i * 2u], deltas[begins.w + i * 2u + 1u]));
    }
  }
  return sums;
}

fn four_floats(begin: u32) -> vec4<f32> {
  return vec4<f32>(delta_float(begin), delta_float(begin + 1u), delta_float(begin + 2u), delta_float(begin + 3u));
}
