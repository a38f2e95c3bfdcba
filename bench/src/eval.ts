/**
 * How much faster an evaluation is in batches than one sequence at a time: the demo's three tasks, 200 prompts each, on one fine-tune. Both must find the
 * same. Run: `npx tsx bench/src/eval.ts`.
 *
 * The two take turns within a round, so that what else runs on the machine meets both; the ratio is taken within a round, then its median.
 */
import { join } from 'node:path';
import { logProbability, Model, openCheckpoint, Session, Tokenizer } from '@signpost/engine';
import { type AnswerRow, BatchRunner, lastWord, readTasks, scoreTask, type Task } from '@signpost/packer';

const ROUNDS = 3;
const TASKS = ['chat', 'math', 'code'];
const DEMO = join(import.meta.dirname, '../../models/demo');
const FINE_TUNE = join(DEMO, 'experts/math');
const BLOCK_TOKENS = 16;

const checkpoint = await openCheckpoint(FINE_TUNE);
const tokenizer = await Tokenizer.load(FINE_TUNE);
const tasks = (await readTasks(join(DEMO, 'tasks.yaml'))).filter(({ name }) => TASKS.includes(name));
const { maxPositions, vocabSize } = checkpoint.config;
const blocks = maxPositions / BLOCK_TOKENS;
const alone = await Model.load(checkpoint, {
  device: 'cpu',
  slots: 0,
  kvBlocks: blocks,
  blockTokens: BLOCK_TOKENS,
  maxRows: maxPositions,
  maxLogitRows: maxPositions,
});
const runner = await BatchRunner.load(checkpoint, 0);

async function aloneScore(task: Task): Promise<number> {
  if (task.kind === 'multiple-choice' || task.kind === 'regex') throw new Error(`${task.name}: not one of the demo's`);
  const values: number[] = [];
  for (const { prompt, answer } of task.rows) {
    const context = tokenizer.encodeChat([{ role: 'user', content: prompt }]);
    if (task.kind === 'likelihood') values.push(...(await likelihoods(context, answer)));
    else {
      const made = await new Session(alone, blocks).greedy(context, task.maxTokens, tokenizer.eosIds);
      const text = tokenizer.decode(made).trim();
      values.push(Number((task.kind === 'exact' ? text : lastWord(text)) === answer.trim()));
    }
  }
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function likelihoods(context: readonly number[], answer: AnswerRow['answer']): Promise<number[]> {
  const continuation = [...tokenizer.encodePart(answer), ...tokenizer.eosIds];
  const logits = await new Session(alone, blocks).append([...context, ...continuation], 'all');
  return continuation.map((id, i) => {
    const row = context.length - 1 + i;
    return logProbability(logits.subarray(row * vocabSize, (row + 1) * vocabSize), id);
  });
}

async function timed<T>(work: () => Promise<T>): Promise<{ seconds: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { seconds: (performance.now() - start) / 1e3, result };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const ratios: number[] = [];
for (let round = 1; round <= ROUNDS; round++) {
  const batched = await timed(() =>
    Promise.all(tasks.map((task) => scoreTask({ runner, slot: undefined, tokenizer }, task))),
  );
  const single = await timed(async () => {
    const values: number[] = [];
    for (const task of tasks) values.push(await aloneScore(task));
    return values;
  });
  ratios.push(single.seconds / batched.seconds);
  for (const [i, { name }] of tasks.entries()) {
    const [ours, theirs] = [batched.result[i]?.value ?? Number.NaN, single.result[i] ?? Number.NaN];
    if (Math.abs(ours - theirs) > 1e-9) throw new Error(`${name}: ${ours} in batches, ${theirs} one by one`);
  }
  console.log(
    `round ${round}: batched ${batched.seconds.toFixed(1)} s, one by one ${single.seconds.toFixed(1)} s, ${(single.seconds / batched.seconds).toFixed(2)} ×`,
  );
}
console.log(`median: ${median(ratios).toFixed(2)} × as fast in batches`);
alone.close();
runner.close();
