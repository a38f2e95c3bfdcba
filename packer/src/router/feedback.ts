/**
 * Feedback on an edge's decisions (`signpost feedback export`) as prompts to train on.
 */
import { type Feedback, feedbackSchema, lessonOf } from '@signpost/contracts';
import { readJsonLines } from '../json-lines.ts';
import type { LabelledPrompt } from './data.ts';

/** As figures and weights by source name it. */
const SOURCE = 'feedback';

export interface Lessons {
  readonly prompts: readonly LabelledPrompt[];
  /** What taught nothing, and why: for people. */
  readonly left: readonly string[];
}

/**
 * Reads JSON lines of feedback.
 *
 * @param labels those there are: feedback alone makes no new one.
 * @param held texts to measure by, which are never trained on.
 * @throws Problem naming the file and line that is malformed.
 */
export async function readFeedback(
  path: string,
  labels: readonly string[],
  held: ReadonlySet<string>,
): Promise<Lessons> {
  const rows = await readJsonLines(path, feedbackSchema, 'as signpost feedback export writes it');
  const prompts: LabelledPrompt[] = [];
  const left = new Map<string, number>();
  for (const row of rows) {
    const lesson = lessonOf(row);
    const why = reason(row, lesson, labels, held);
    if (why !== undefined) left.set(why, (left.get(why) ?? 0) + 1);
    else if (lesson !== undefined) prompts.push({ ...lesson, source: SOURCE });
  }
  return { prompts, left: [...left].map(([why, count]) => `${count} ${why}`) };
}

/** Why a row teaches nothing. */
function reason(
  { text }: Feedback,
  lesson: ReturnType<typeof lessonOf>,
  labels: readonly string[],
  held: ReadonlySet<string>,
): string | undefined {
  if (text === null) return 'without the prompt';
  if (lesson === undefined) return 'that say what is wrong, not what is right';
  if (!labels.includes(lesson.label))
    return `with the label "${lesson.label}", which no prompt of the training set has`;
  return held.has(text) ? 'about prompts of the sets it is measured by' : undefined;
}
