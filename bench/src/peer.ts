/**
 * llama.cpp in a process of its own, with models made of a checkpoint.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { openCheckpoint } from '@signpost/engine';
import { threads } from '@signpost/kernels';
import { type GgufFormat, writeGguf } from './gguf.ts';

/** Tokens a second, and milliseconds; of what wasn't asked for, 0. */
export interface PeerAnswer {
  readonly prefill: number;
  readonly decode: number;
  readonly loadMs: number;
  /** What a first answer takes longer than a second: the load, and what it has put off. */
  readonly firstAnswerMs: number;
}

/** @param dir in which node-llama-cpp is installed. @param formats of the models to make in the checkpoint's folder, by name. */
export async function startPeer(
  dir: string,
  folder: string,
  formats: Readonly<Record<string, GgufFormat>>,
): Promise<ChildProcess> {
  const checkpoint = await openCheckpoint(folder);
  const models: Record<string, string> = {};
  for (const [name, format] of Object.entries(formats)) {
    const path = join(folder, `${name}.gguf`);
    await writeGguf(path, checkpoint, format);
    models[name] = path;
  }
  const script = join(import.meta.dirname, 'peer-llama.mjs');
  const peer = fork(script, [dir, String(threads()), JSON.stringify(models)], { execArgv: [], stdio: 'ignore' });
  await once(peer, 'message');
  return peer;
}

export async function askPeer(peer: ChildProcess, question: object): Promise<PeerAnswer> {
  peer.send(question);
  const [answer] = (await once(peer, 'message')) as [PeerAnswer];
  return answer;
}
