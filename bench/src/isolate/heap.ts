/**
 * What V8 holds for the Worker, by its inspector: objects, and buffers outside of its heap (WebAssembly's memory is one, unless it is shared between threads, as
 * ONNX Runtime's is also where it has only one).
 */
import { once } from 'node:events';
import { WebSocket } from 'undici';

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly context?: { readonly id: number } };
  readonly result?: Result;
  readonly error?: { readonly message: string };
}

/** What the calls below give, each its part. */
interface Result {
  readonly usedSize?: number;
  readonly backingStorageSize?: number;
  readonly result?: { readonly objectId?: string; readonly value?: number };
  readonly objects?: { readonly objectId: string };
}

interface Waiting {
  resolve(result: Result): void;
  reject(error: Error): void;
}

export class IsolateHeap {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  /** Number of the Worker's script context. */
  #context: number | undefined;
  #calls = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }: { readonly data: string }) =>
      this.#hear(JSON.parse(data) as Message),
    );
  }

  static async open(inspector: URL): Promise<IsolateHeap> {
    const targets = (await (await fetch(`http://${inspector.host}/json`)).json()) as {
      webSocketDebuggerUrl: string;
      id: string;
    }[];
    const target = targets.find(({ id }) => id.includes('signpost'));
    const socket = new WebSocket(target?.webSocketDebuggerUrl ?? '');
    await once(socket, 'open');
    const heap = new IsolateHeap(socket);
    await heap.#call('Runtime.enable');
    return heap;
  }

  /** Bytes without shared memory, what is no longer used among them. */
  async bytes(): Promise<number> {
    const { usedSize = Number.NaN, backingStorageSize = Number.NaN } = await this.#call('Runtime.getHeapUsage');
    return usedSize + backingStorageSize;
  }

  /** Bytes of shared memory, which only grows. Collects garbage. */
  async sharedBytes(): Promise<number> {
    const expression = 'WebAssembly.Memory.prototype';
    const { result } = await this.#call('Runtime.evaluate', { expression, contextId: this.#context });
    const { objects } = await this.#call('Runtime.queryObjects', { prototypeObjectId: result?.objectId });
    const sum = await this.#call('Runtime.callFunctionOn', {
      objectId: objects?.objectId,
      functionDeclaration: `function () {
        const isShared = ({ buffer }) => Object.prototype.toString.call(buffer) === '[object SharedArrayBuffer]';
        return this.filter(isShared).reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
      }`,
      returnByValue: true,
    });
    return sum.result?.value ?? Number.NaN;
  }

  async collect(): Promise<void> {
    await this.#call('HeapProfiler.collectGarbage');
  }

  close(): void {
    this.#socket.close();
  }

  #call(method: string, params: object = {}): Promise<Result> {
    const id = ++this.#calls;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #hear({ id, method, params, result = {}, error }: Message): void {
    if (method === 'Runtime.executionContextCreated') this.#context = params?.context?.id;
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error.message));
  }
}
