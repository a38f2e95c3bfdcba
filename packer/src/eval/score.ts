/**
 * One method on one task: prompts in, a figure out.
 */
import { Problem } from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import { type BatchRunner, UnfitSequence } from './runner.ts';
import type { AnswerRow, ChoiceRow, Task } from './tasks.ts';

export interface TaskScore {
  readonly measure: 'accuracy' | 'log-likelihood';
  /** The share of rows that is right, or the mean log-likelihood of a token (natural logarithm). */
  readonly value: number;
  readonly rows: number;
  /** Tokens scored or generated. */
  readonly tokens: number;
}

/** What answers: a model, and which of the experts in it. No slot is its base. */
export interface Answerer {
  readonly runner: BatchRunner;
  readonly slot: number | undefined;
  readonly tokenizer: Tokenizer;
}

/**
 * Scores all rows of a task at once.
 *
 * @param onRow hears of each row that is done.
 * @throws Problem naming the task and row whose tokens don't fit the model.
 */
export async function scoreTask(answerer: Answerer, task: Task, onRow: () => void = () => {}): Promise<TaskScore> {
  switch (task.kind) {
    case 'likelihood':
      return meanLogLikelihood(await eachRow(task, task.rows, onRow, (row) => answerScores(answerer, task, row)));
    case 'multiple-choice':
      return accuracy(await eachRow(task, task.rows, onRow, (row) => choose(answerer, task, row)));
    case 'exact':
      return answered(answerer, task, onRow, (text) => text);
    case 'last-word':
      return answered(answerer, task, onRow, lastWord);
    case 'regex':
      return answered(answerer, task, onRow, (text) => task.pattern.capture(text)?.trim());
    default:
      return task satisfies never;
  }
}

/** "76 + 22 = 98. The answer is 98." → "98" */
export function lastWord(text: string): string | undefined {
  return text.split(/\s+/).at(-1)?.replace(/\.$/, '');
}

interface Judged {
  readonly isRight: boolean;
  readonly tokens: number;
}

/** Greedy answers, right where what `extract` finds in one is the row's answer. */
async function answered(
  { runner, slot, tokenizer }: Answerer,
  task: Task & { readonly maxTokens: number; readonly rows: readonly AnswerRow[] },
  onRow: () => void,
  extract: (text: string) => string | undefined,
): Promise<TaskScore> {
  const judged = await eachRow(task, task.rows, onRow, async ({ prompt, answer }): Promise<Judged> => {
    const context = contextOf(tokenizer, task, prompt);
    const made = await runner.generate(slot, context, task.maxTokens, tokenizer.eosIds);
    return { isRight: extract(tokenizer.decode(made).trim()) === answer.trim(), tokens: made.length };
  });
  return accuracy(judged);
}

/** Log-likelihood of each token of the right answer, the end of turn included. */
function answerScores({ runner, slot, tokenizer }: Answerer, task: Task, row: AnswerRow): Promise<number[]> {
  const end = tokenizer.endOfTurn === undefined ? [] : [tokenizer.endOfTurn];
  return runner.score(slot, contextOf(tokenizer, task, row.prompt), [...tokenizer.encodePart(row.answer), ...end]);
}

/** Right where the gold choice has the highest log-likelihood by character, as "acc_norm" of EleutherAI's lm-evaluation-harness. */
async function choose({ runner, slot, tokenizer }: Answerer, task: Task, row: ChoiceRow): Promise<Judged> {
  const context = contextOf(tokenizer, task, row.prompt);
  const scores = await Promise.all(
    row.choices.map((choice) => runner.score(slot, context, tokenizer.encodePart(choice))),
  );
  const normalised = scores.map((values, i) => sum(values) / (row.choices[i]?.length ?? 1));
  return {
    isRight: normalised.indexOf(Math.max(...normalised)) === row.gold,
    tokens: sum(scores.map((values) => values.length)),
  };
}

function contextOf(tokenizer: Tokenizer, { format }: Task, prompt: string): number[] {
  return format === 'chat' ? tokenizer.encodeChat([{ role: 'user', content: prompt }]) : tokenizer.encode(prompt);
}

/** All rows at once: the runner batches what it gets. */
function eachRow<Row, Result>(
  { name }: Task,
  rows: readonly Row[],
  onRow: () => void,
  judge: (row: Row) => Promise<Result>,
): Promise<Result[]> {
  return Promise.all(
    rows.map(async (row, i) => {
      try {
        const result = await judge(row);
        onRow();
        return result;
      } catch (cause) {
        if (cause instanceof UnfitSequence)
          throw new Problem(`task ${name}, row ${i + 1}: ${cause.message}`, { cause });
        throw cause;
      }
    }),
  );
}

function meanLogLikelihood(rows: readonly number[][]): TaskScore {
  const scores = rows.flat();
  return { measure: 'log-likelihood', value: sum(scores) / scores.length, rows: rows.length, tokens: scores.length };
}

function accuracy(rows: readonly Judged[]): TaskScore {
  const right = rows.filter(({ isRight }) => isRight).length;
  return {
    measure: 'accuracy',
    value: right / rows.length,
    rows: rows.length,
    tokens: sum(rows.map(({ tokens }) => tokens)),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
