/**
 * Opens what a user calls a model: a checkpoint folder, an adapter folder, or a repository on the Hugging Face Hub.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Problem } from '@signpost/contracts';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import { withProgress } from '../progress.ts';
import type { Selection } from './hub.ts';
import { HUB_SCHEME, PICKLE, partsOf } from './location.ts';
import { ADAPTER_CONFIG, openAdapter } from './peft.ts';

export interface SourceOptions {
  /** What an adapter is put on. */
  readonly base?: Checkpoint;
}

/**
 * Opens `location`: a Hugging Face checkpoint folder, the folder of a PEFT LoRA adapter of `base`, `hf://ORG/NAME@REVISION` for either on the Hub, or
 * `MODEL+ADAPTER` for an adapter on another model than `base`.
 *
 * @throws Problem when nothing of that kind is there, its weights are pickle, or it can't be fetched.
 */
export async function openSource(location: string, options: SourceOptions = {}): Promise<Checkpoint> {
  const [model, adapter] = partsOf(location);
  const opened = await openFolder(await folderOf(model), options);
  if (adapter === undefined) return opened;
  const dir = await folderOf(adapter);
  if (!existsSync(join(dir, ADAPTER_CONFIG)))
    throw new Problem(`${location}: ${dir} holds no ${ADAPTER_CONFIG}; after "+" an adapter is expected`);
  return openAdapter(dir, opened);
}

/** The folder itself, or the one that the Hub's files are fetched to: those that `select` chooses, a checkpoint's unless given. */
export async function folderOf(location: string, select?: Selection): Promise<string> {
  if (!location.startsWith(HUB_SCHEME)) return location;
  // Imported late: its client is slow to load.
  const { fetchRepository } = await import('./hub.ts');
  return withProgress(`fetching ${location}`, (watch) => fetchRepository(location, watch, select));
}

async function openFolder(dir: string, { base }: SourceOptions): Promise<Checkpoint> {
  if (!existsSync(dir) || !statSync(dir).isDirectory()) {
    throw new Problem(
      `${dir} is no folder; expected a checkpoint or adapter folder, or hf://ORG/NAME@REVISION for the Hugging Face Hub`,
    );
  }
  if (existsSync(join(dir, ADAPTER_CONFIG))) {
    if (base === undefined) throw new Problem(`${dir} is an adapter: it needs a base checkpoint to be put on`);
    return openAdapter(dir, base);
  }
  const files = readdirSync(dir);
  const pickle = files.find((file) => PICKLE.test(file));
  if (pickle !== undefined && !files.some((file) => file.endsWith('.safetensors'))) {
    throw new Problem(`${dir} holds its weights as pickle (${pickle}), which can run code; convert it to safetensors`);
  }
  return openCheckpoint(dir);
}
