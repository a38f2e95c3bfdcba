/**
 * What an evaluation (`signpost-packer eval`) found of one delta file, as the catalogue keeps it.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type ExpertQuality, Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';
import { BASE_METHOD } from '../eval/evaluate.ts';

/** Of `eval.json`, what is read here. */
const reportSchema = z.object({
  tasks: z.array(z.object({ name: z.string(), kind: z.string() })),
  methods: z.array(
    z.object({
      name: z.string(),
      kind: z.enum(['base', 'delta', 'checkpoint']),
      path: z.string(),
      scores: z.record(
        z.string(),
        z.object({ value: z.number(), perplexity: z.number().optional(), retention: z.number().optional() }),
      ),
    }),
  ),
});
type Score = z.output<typeof reportSchema>['methods'][number]['scores'][string];

/**
 * The figures of the delta file at `path`, by task.
 *
 * @param method its name in the evaluation; without one, the method that was read from that path.
 * @throws Problem when the file is no evaluation, or this delta isn't in it.
 */
export async function readQuality(
  evaluation: string,
  path: string,
  method: string | undefined,
): Promise<Readonly<Record<string, ExpertQuality>>> {
  const { tasks, methods } = parseWith(reportSchema, await readReport(evaluation), evaluation);
  const deltas = methods.filter(({ kind }) => kind === 'delta');
  const found = deltas.find((one) =>
    method === undefined ? resolve(one.path) === resolve(path) : one.name === method,
  );
  if (found === undefined) {
    const what = method === undefined ? `no delta was read from ${path}` : `there is no delta "${method}"`;
    const names = deltas.map((one) => `"${one.name}" (${one.path})`).join(', ') || 'none';
    throw new Problem(`${evaluation}: ${what}; those evaluated: ${names}; name one with --method`);
  }
  const base = methods.find(({ name }) => name === BASE_METHOD);
  return Object.fromEntries(
    tasks.flatMap(({ name }) => {
      const score = found.scores[name];
      return score === undefined ? [] : [[name, qualityOf(score, base?.scores[name])] as const];
    }),
  );
}

function qualityOf(score: Score, base: Score | undefined): ExpertQuality {
  return {
    measure: score.perplexity === undefined ? 'accuracy' : 'perplexity',
    value: score.perplexity ?? score.value,
    ...(base === undefined ? {} : { base: base.perplexity ?? base.value }),
    ...(score.retention === undefined ? {} : { kept: score.retention }),
  };
}

async function readReport(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Problem(`${file} is no evaluation (eval.json of \`signpost-packer eval\`): ${why}`, { cause });
  }
}
