// What both kernels of linear layers share: up to three matrices of one input, and where their outputs go.

struct Segment {
  outs: u32,
  weights: u32, // first vec4
  scales: u32, // first vec4
  first_row: u32, // of the whole matrix: a large one is held in parts
  table: u32,
  bias: u32, // in the vectors; NONE
  bias_table: u32,
  out_stride: u32,
  first_tile: u32, // the first workgroup along y that is its own
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

struct Params {
  groups: u32, // of 32 columns
  view: u32,
  segments: u32,
  epilogue: u32,
  residual_stride: u32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
  segment: array<Segment, 3>,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> x: array<vec4<f32>>; // (rows, 8 · groups)
@group(0) @binding(6) var<storage, read_write> out0: array<f32>;
@group(0) @binding(7) var<storage, read_write> out1: array<f32>;
@group(0) @binding(8) var<storage, read_write> out2: array<f32>;

// Epilogues: an output is stored; also added to the residual, which stands in `out1` (WebGPU promises eight storage buffers); or there are gate and up, and silu(gate) · up goes where the gate would.
const STORE = 0u;
const ADD = 1u;
const SWIGLU = 2u;

fn segment_at(tile: u32) -> u32 {
  var index = 0u;
  for (var i = 1u; i < params.segments; i++) {
    if (tile >= params.segment[i].first_tile) { index = i; }
  }
  return index;
}

fn put(segment: u32, index: u32, value: f32) {
  switch (segment) {
    case 0u: { out0[index] = value; }
    case 1u: { out1[index] = value; }
    default: { out2[index] = value; }
  }
}

fn bias_of(segment: u32, out: u32, row: u32) -> f32 {
  let begin = params.segment[segment].bias;
  if (begin == NONE) { return 0.0; }
  return vector_seen(begin, params.segment[segment].bias_table, out, terms_of(params.view, row));
}

// One output of a row: `sum` is W x.
fn finish(segment: u32, out: u32, row: u32, sum: f32) {
  let column = out + params.segment[segment].first_row;
  let value = sum + bias_of(segment, column, row);
  put(segment, row * params.segment[segment].out_stride + column, value);
  if (params.epilogue == ADD) { out1[row * params.residual_stride + column] += value; }
}

// One output of a row: sums of segment 0, the gate, and 1.
fn finish_swiglu(out: u32, row: u32, gate_sum: f32, up_sum: f32) {
  let gate = gate_sum + bias_of(0u, out, row);
  let up = up_sum + bias_of(1u, out, row);
  put(0u, row * params.segment[0].out_stride + out, gate / (1.0 + exp(-gate)) * up);
  put(1u, row * params.segment[1].out_stride + out, up);
}
