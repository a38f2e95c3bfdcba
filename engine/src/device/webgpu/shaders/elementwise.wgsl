// What is computed value by value, where it isn't part of a linear layer.

struct Params {
  view: u32,
  cols: u32,
  x_stride: u32, // floats
  out_stride: u32,
}

@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> gate: array<f32>;

override WORKGROUP: u32 = 64u;
// 0: out += x. 1: out = silu(gate) · x. 2: out = silu(out) · x. 3: out = silu(gate) · out. 4: out = silu(out) · out. 5: out = rows of x, those of the view. 6: out += out.
override OPERATION: u32 = 0u;

fn silu(value: f32) -> f32 {
  return value / (1.0 + exp(-value));
}

@compute @workgroup_size(1, WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.y;
  if (column >= params.cols) { return; }
  let row = id.x;
  let at = row * params.out_stride + column;
  switch (OPERATION) {
    case 0u: { out[at] += x[row * params.x_stride + column]; }
    case 1u: { out[at] = silu(gate[row * params.x_stride + column]) * x[row * params.x_stride + column]; }
    case 2u: { out[at] = silu(out[at]) * x[row * params.x_stride + column]; }
    case 3u: { out[at] = silu(gate[row * params.x_stride + column]) * out[at]; }
    case 4u: { out[at] = silu(out[at]) * out[at]; }
    case 6u: { out[at] += out[at]; }
    default: {
      let source = step[view_of(params.view, VIEW_SOURCES) + row];
      out[at] = x[source * params.x_stride + column];
    }
  }
}
