// What tiles in the workgroup's memory hold, and are multiplied in.

alias Element = f32;
const LARGEST = vec4<f32>(0x1.fffffep+127f);
