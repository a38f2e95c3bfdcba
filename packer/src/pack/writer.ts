/**
 * A delta file that grows under a temporary name. A run that is killed leaves it with a journal, and the next one with the same inputs goes on behind the
 * last parameter that was written; a run that fails or is stopped leaves nothing.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CheckpointOrigin } from '@signpost/engine';
import { syncFolder } from '@signpost/store/files';
import { z } from 'zod';

const JOURNAL_INTERVAL_MS = 2_000;

const journalSchema = z.object({
  key: z.string(),
  /** Of each parameter written: its bytes, and a matrix's relative error. */
  params: z.array(z.object({ stem: z.string(), bytes: z.number().int().positive(), error: z.number().optional() })),
});
type Journal = z.output<typeof journalSchema>;
export type WrittenParam = Journal['params'][number];

export class DeltaWriter {
  readonly #out: string;
  readonly #file: FileHandle;
  readonly #key: string;
  readonly #headerBytes: number;
  readonly #params: WrittenParam[];
  readonly #journalIntervalMs: number;
  #end: number;
  #journalAt = performance.now();

  private constructor(
    out: string,
    file: FileHandle,
    key: string,
    headerBytes: number,
    params: WrittenParam[],
    journalIntervalMs: number,
  ) {
    this.#out = out;
    this.#file = file;
    this.#key = key;
    this.#headerBytes = headerBytes;
    this.#params = params;
    this.#journalIntervalMs = journalIntervalMs;
    this.#end = params.reduce((end, { bytes }) => end + bytes, headerBytes);
  }

  /**
   * @param key names everything that decides what is written; another key's leftovers are discarded.
   * @param journalIntervalMs how much work a killed run may lose.
   */
  static async open(
    out: string,
    key: string,
    headerBytes: number,
    journalIntervalMs = JOURNAL_INTERVAL_MS,
  ): Promise<DeltaWriter> {
    await mkdir(dirname(out), { recursive: true });
    const params = await leftovers(out, key, headerBytes);
    const file = await open(partialPath(out), params.length > 0 ? 'r+' : 'w+');
    return new DeltaWriter(out, file, key, headerBytes, params, journalIntervalMs);
  }

  /** In order. */
  get written(): readonly WrittenParam[] {
    return this.#params;
  }

  get bytes(): number {
    return this.#end;
  }

  async append(stem: string, parts: readonly Uint8Array[], error: number | undefined): Promise<void> {
    const start = this.#end;
    for (const part of parts) {
      await writeAt(this.#file, part, this.#end);
      this.#end += part.byteLength;
    }
    this.#params.push({ stem, bytes: this.#end - start, ...(error === undefined ? {} : { error }) });
    if (performance.now() - this.#journalAt >= this.#journalIntervalMs) await this.#writeJournal();
  }

  /** The bytes of a parameter written before. */
  async read(index: number): Promise<Uint8Array> {
    const start = this.#params.slice(0, index).reduce((end, { bytes }) => end + bytes, this.#headerBytes);
    const data = new Uint8Array(this.#params[index]?.bytes ?? 0);
    let done = 0;
    while (done < data.byteLength) {
      const { bytesRead } = await this.#file.read(data, done, data.byteLength - done, start + done);
      if (bytesRead === 0) throw new Error(`${partialPath(this.#out)} was cut short while it was written`);
      done += bytesRead;
    }
    return data;
  }

  /** Puts the header in front, and gives the file its name. */
  async finish(header: Uint8Array): Promise<void> {
    if (header.byteLength !== this.#headerBytes)
      throw new Error(`the header grew from ${this.#headerBytes} to ${header.byteLength} bytes`);
    await writeAt(this.#file, header, 0);
    await this.#file.truncate(this.#end);
    await this.#file.sync();
    await this.#file.close();
    await rename(partialPath(this.#out), this.#out);
    await syncFolder(dirname(this.#out));
    await rm(journalPath(this.#out), { force: true });
  }

  async discard(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await rm(partialPath(this.#out), { force: true });
    await rm(journalPath(this.#out), { force: true });
  }

  async #writeJournal(): Promise<void> {
    await this.#file.datasync();
    const path = journalPath(this.#out);
    await writeFile(`${path}.tmp`, JSON.stringify({ key: this.#key, params: this.#params } satisfies Journal));
    await rename(`${path}.tmp`, path);
    this.#journalAt = performance.now();
  }
}

/**
 * What tells one state of a checkpoint's files from another without reading them: their names, sizes and times, and how the checkpoint is made of them.
 * Undefined where one of its paths is neither file nor folder.
 */
export async function originState({ paths, method }: CheckpointOrigin): Promise<string | undefined> {
  const hash = createHash('sha256').update(method);
  for (const path of paths) {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) return undefined;
    const names = found.isDirectory() ? await readdir(path) : [''];
    for (const name of names.filter((entry) => entry === '' || /\.(safetensors|json)$/.test(entry)).sort()) {
      const { size, mtimeMs, ino } = await stat(join(path, name));
      hash.update(JSON.stringify([path, name, size, mtimeMs, ino]));
    }
  }
  return hash.digest('hex');
}

function partialPath(out: string): string {
  return `${out}.partial`;
}

function journalPath(out: string): string {
  return `${out}.partial.json`;
}

async function leftovers(out: string, key: string, headerBytes: number): Promise<WrittenParam[]> {
  const text = await readFile(journalPath(out), 'utf8').catch(() => undefined);
  if (text === undefined) return [];
  const parsed = journalSchema.safeParse(JSON.parse(text));
  if (!parsed.success || parsed.data.key !== key) return [];
  const end = parsed.data.params.reduce((sum, { bytes }) => sum + bytes, headerBytes);
  const size = await stat(partialPath(out)).then(
    (found) => found.size,
    () => 0,
  );
  return size >= end ? parsed.data.params : [];
}

/** One `write` call may write less than it was given, on a full disk say. */
async function writeAt(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < data.byteLength) {
    const { bytesWritten } = await file.write(data, done, data.byteLength - done, position + done);
    done += bytesWritten;
  }
}
