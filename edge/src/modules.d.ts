/** Files that wrangler.toml's module rules bundle. */
declare module '*.yaml' {
  const text: string;
  export default text;
}
declare module '*/router.json' {
  const text: string;
  export default text;
}
declare module '*/tokenizer.json' {
  const text: string;
  export default text;
}
declare module '*.onnx' {
  const bytes: ArrayBuffer;
  export default bytes;
}
declare module '*.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
