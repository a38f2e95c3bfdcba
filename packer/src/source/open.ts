/**
 * Opens what a user calls a model: a checkpoint folder, an adapter folder, or a repository on the Hugging Face Hub.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Problem } from '@signpost/contracts';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import { ADAPTER_CONFIG, openAdapter } from './peft.ts';

export interface SourceOptions {
  /** What an adapter is put on. */
  readonly base?: Checkpoint;
}

const PICKLE = /\.(bin|pt|pth|ckpt)$/;

/**
 * Opens `location`: a Hugging Face checkpoint folder, or the folder of a PEFT LoRA adapter of `base`.
 *
 * @throws Problem when nothing of that kind is there, or its weights are pickle.
 */
export async function openSource(location: string, options: SourceOptions = {}): Promise<Checkpoint> {
  return openFolder(location, options);
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
