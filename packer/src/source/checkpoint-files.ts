/**
 * Which files a checkpoint is made of, by their names.
 */
import { Problem } from '@signpost/contracts';
import { PICKLE } from './location.ts';

const WEIGHTS = /^(adapter_)?model(-\d+-of-\d+)?\.safetensors$/;
const COMPANIONS =
  /^(config|generation_config|adapter_config|model\.safetensors\.index|tokenizer\w*|special_tokens_map|added_tokens|vocab)\.json$|^(tokenizer\.model|merges\.txt|chat_template\.jinja)$/;

/** Those of `paths` that a checkpoint's reader needs. @throws Problem when there are no weights among them, or only in pickle. */
export function checkpointFiles(paths: readonly string[], location: string): string[] {
  if (!paths.some((path) => WEIGHTS.test(path))) {
    const pickle = paths.find((path) => PICKLE.test(path));
    throw new Problem(
      pickle === undefined
        ? `${location} holds no weights in safetensors`
        : `${location} holds its weights as pickle (${pickle}), which can run code; convert it to safetensors`,
    );
  }
  return paths.filter((path) => WEIGHTS.test(path) || COMPANIONS.test(path));
}
