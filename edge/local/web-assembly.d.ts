/** What Node has of WebAssembly and its types don't. */
declare namespace WebAssembly {
  type Imports = Record<string, Record<string, unknown>>;
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    readonly exports: Record<string, unknown>;
    constructor(module: Module, imports?: Imports);
  }
  function instantiate(module: Module, imports?: Imports): Promise<Instance>;
}
