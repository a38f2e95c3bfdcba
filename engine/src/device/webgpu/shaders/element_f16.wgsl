// What tiles in the workgroup's memory hold, and are multiplied in: half the memory, and twice the speed where the adapter has it. Sums stay F32.

alias Element = f16;
const LARGEST = vec4<f32>(65504.0);
