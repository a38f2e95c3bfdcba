/**
 * Tasks: a YAML file that names JSON-lines files and how their rows are scored.
 */
import { dirname, resolve } from 'node:path';
import { type Pattern, parseWith, patternSchema } from '@signpost/contracts';
import { z } from 'zod';
import { readJsonLines } from '../json-lines.ts';
import { readYaml } from '../recipe/read-yaml.ts';
import { checkKeys } from '../recipe/suggest.ts';

/** Tokens after which an answer that hasn't ended is taken as it is. */
const DEFAULT_MAX_TOKENS = 256;

const common = {
  /** JSON lines; relative to the tasks file. */
  data: z.string().min(1),
  /** `chat`: the prompt is a user's message in the chat template; `text`: it stands by itself. */
  format: z.enum(['chat', 'text']).default('chat'),
  /** The method whose gain over the base others are to keep. */
  tuned: z.string().min(1).optional(),
};
/** The row's field that an answer is compared with. */
const field = z.string().min(1).default('answer');
const generated = { ...common, field, maxTokens: z.number().int().positive().default(DEFAULT_MAX_TOKENS) };
const taskSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('likelihood'), ...common, field }),
  z.strictObject({ kind: z.literal('exact'), ...generated }),
  z.strictObject({ kind: z.literal('last-word'), ...generated }),
  z.strictObject({ kind: z.literal('regex'), ...generated, pattern: patternSchema }),
  z.strictObject({ kind: z.literal('multiple-choice'), ...common }),
]);
const tasksSchema = z.strictObject({
  version: z.literal(1),
  tasks: z
    .record(z.string().regex(/^[a-zA-Z][\w-]*$/, 'expected a letter, then letters, digits, "_" or "-"'), taskSchema)
    .refine((tasks) => Object.keys(tasks).length > 0, 'no task'),
});

export interface AnswerRow {
  readonly prompt: string;
  readonly answer: string;
}

export interface ChoiceRow {
  readonly prompt: string;
  readonly choices: readonly string[];
  /** Index of the right one. */
  readonly gold: number;
}

interface TaskCommon {
  readonly name: string;
  readonly format: 'chat' | 'text';
  readonly tuned?: string | undefined;
}

interface GeneratedTask extends TaskCommon {
  readonly rows: readonly AnswerRow[];
  readonly maxTokens: number;
}

/** A task with its rows. */
export type Task =
  | (TaskCommon & { readonly kind: 'likelihood'; readonly rows: readonly AnswerRow[] })
  | (GeneratedTask & { readonly kind: 'exact' | 'last-word' })
  | (GeneratedTask & { readonly kind: 'regex'; readonly pattern: Pattern })
  | (TaskCommon & { readonly kind: 'multiple-choice'; readonly rows: readonly ChoiceRow[] });

/**
 * Reads a tasks file and the first `limit` rows of each of its data files.
 *
 * @throws Problem naming the file, and the key or line that is wrong.
 */
export async function readTasks(path: string, limit = Number.POSITIVE_INFINITY): Promise<Task[]> {
  const raw = await readYaml(path);
  refuseUnknown(raw, path);
  const { tasks } = parseWith(tasksSchema, raw, path);
  const read: Task[] = [];
  for (const [name, spec] of Object.entries(tasks)) {
    const data = resolve(dirname(path), spec.data);
    if (spec.kind === 'multiple-choice') {
      const rows = await readJsonLines(data, choiceRow, '{"prompt": string, "choices": [string], "gold": number}');
      read.push({ ...spec, name, rows: rows.slice(0, limit) });
    } else {
      const expected = `{"prompt": string, ${JSON.stringify(spec.field)}: string or number}`;
      const rows = await readJsonLines(data, answerRow(spec.field), expected);
      read.push({ ...spec, name, rows: rows.slice(0, limit) });
    }
  }
  return read;
}

/** Before anything else: a misspelt key also leaves a required one missing, and the slip is the better message. */
function refuseUnknown(value: unknown, where: string): void {
  const file = Object(value) as { readonly tasks?: unknown };
  checkKeys(file, Object.keys(tasksSchema.shape), where);
  for (const [name, task] of Object.entries(Object(file.tasks))) {
    const { kind } = Object(task) as { readonly kind?: unknown };
    const schema = taskSchema.options.find((option) => option.shape.kind.value === kind);
    if (schema !== undefined) checkKeys(Object(task), Object.keys(schema.shape), `${where}: task ${name}`);
  }
}

function answerRow(name: string) {
  return z.looseObject({ prompt: z.string() }).transform((row, context): AnswerRow => {
    const value = row[name];
    if (typeof value === 'string' || typeof value === 'number') return { prompt: row.prompt, answer: String(value) };
    context.addIssue({ code: 'custom', path: [name], message: 'neither a string nor a number' });
    return z.NEVER;
  });
}

const choiceRow = z
  .looseObject({
    prompt: z.string(),
    choices: z.array(z.string().min(1)).min(2),
    gold: z.number().int().nonnegative(),
  })
  .refine(({ choices, gold }) => gold < choices.length, { path: ['gold'], message: 'not the index of a choice' });
