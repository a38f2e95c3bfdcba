/**
 * Methods on tasks: the base and its deltas on one resident model, each other checkpoint on one of its own, one after the other.
 */
import { stat } from 'node:fs/promises';
import { Problem, type TokenizerChanges } from '@signpost/contracts';
import { type Checkpoint, type DeltaFile, openCheckpoint, openMappedDelta, Tokenizer } from '@signpost/engine';
import { tokenizerChanges } from '../source/tokenizer.ts';
import { BatchRunner } from './runner.ts';
import { scoreTask, type TaskScore } from './score.ts';
import type { Task } from './tasks.ts';

export const BASE_METHOD = 'base';

/** Something to be scored: a delta file for the base, or a checkpoint folder. */
export interface Method {
  readonly name: string;
  readonly path: string;
}

export interface MethodScores extends Method {
  readonly kind: 'base' | 'delta' | 'checkpoint';
  /** Of the delta file, or of the checkpoint's tensors. */
  readonly bytes: number;
  /** By task. */
  readonly scores: Readonly<Record<string, TaskScore>>;
}

export interface EvaluateOptions {
  /**
   * Folder of the tokenizer and chat template that all methods are given their prompts by. Left out, each is spoken to as it was trained: by the base's,
   * with what its own changes.
   */
  readonly tokenizer?: string | undefined;
  /** Hears how many rows of all are done. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Scores the base and all methods, in the order given.
 *
 * @throws Problem when a path is neither checkpoint nor delta, a delta is for another base, or a row doesn't fit.
 */
export async function evaluate(
  base: string,
  methods: readonly Method[],
  tasks: readonly Task[],
  { tokenizer: tokenizerDir, onProgress = () => {}, signal }: EvaluateOptions,
): Promise<MethodScores[]> {
  const common = await Tokenizer.load(tokenizerDir ?? base);
  const tokenizerOf = (changes: TokenizerChanges | undefined) =>
    tokenizerDir === undefined ? common.withChanges(changes) : common;
  const total = (methods.length + 1) * tasks.reduce((sum, { rows }) => sum + rows.length, 0);
  let done = 0;
  const onRow = () => onProgress(++done, total);
  const scoreAll = async (runner: BatchRunner, slot: number | undefined, changes: TokenizerChanges | undefined) =>
    Object.fromEntries(
      await Promise.all(
        tasks.map(
          async (task) =>
            [task.name, await scoreTask({ runner, slot, tokenizer: tokenizerOf(changes) }, task, onRow)] as const,
        ),
      ),
    );

  const isDelta = await Promise.all(methods.map(({ path }) => isFile(path)));
  const deltas = methods.filter((_, i) => isDelta[i]);
  const checkpoint = await openCheckpoint(base);
  const results = new Map<string, MethodScores>();
  const shared = await BatchRunner.load(checkpoint, deltas.length, signal);
  try {
    const loaded: Pick<DeltaFile, 'bytes' | 'metadata'>[] = [];
    for (const [slot, { path }] of deltas.entries()) {
      const delta = openMappedDelta(path);
      shared.model.loadExpert(slot, delta);
      loaded.push({ bytes: delta.bytes, metadata: delta.metadata });
    }
    const baseMethod = { name: BASE_METHOD, path: base, kind: 'base' as const, bytes: tensorBytes(checkpoint) };
    const [baseScores, ...scores] = await Promise.all([
      scoreAll(shared, undefined, undefined),
      ...loaded.map(({ metadata }, slot) => scoreAll(shared, slot, metadata.tokenizer)),
    ]);
    results.set(BASE_METHOD, { ...baseMethod, scores: baseScores });
    for (const [i, method] of deltas.entries())
      results.set(method.name, { ...method, kind: 'delta', bytes: loaded[i]?.bytes ?? 0, scores: scores[i] ?? {} });
  } finally {
    shared.close();
  }
  for (const method of methods.filter((_, i) => !isDelta[i])) {
    const own = await openCheckpoint(method.path);
    const runner = await BatchRunner.load(own, 0, signal);
    try {
      const changes = tokenizerDir === undefined ? await tokenizerChanges(checkpoint, own) : undefined;
      const scores = await scoreAll(runner, undefined, changes);
      results.set(method.name, { ...method, kind: 'checkpoint', bytes: tensorBytes(own), scores });
    } finally {
      runner.close();
    }
  }
  return [BASE_METHOD, ...methods.map(({ name }) => name)].flatMap((name) => results.get(name) ?? []);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (cause) {
    throw new Problem(`${path} can't be read; expected a delta file or a checkpoint folder`, { cause });
  }
}

function tensorBytes({ tensors }: Checkpoint): number {
  return [...tensors.values()].reduce((sum, { info }) => sum + info.bytes, 0);
}
