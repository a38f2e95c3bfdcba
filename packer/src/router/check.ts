/**
 * Whether a router model, trained here or elsewhere, is one that the edge can run: what the contract asks of its files, inputs and output, and how fast
 * it is. That it starts in workerd, too, is for test/e2e/router.test.ts to show.
 */
import { Problem } from '@signpost/contracts';
import { MAX_CHARS, type RouterManifest, routerLimit } from '@signpost/contracts/router';
import type { InferenceSession } from 'onnxruntime-web';
import { formatBytes } from '../progress.ts';
import { type Classify, type LoadedRouter, type RouterFolder, readRouter, startRouter } from './evaluate.ts';

/** `slow` is no failure: it may be the machine. */
export interface Finding {
  readonly what: 'files' | 'size' | 'start' | 'inputs' | 'output' | 'probabilities' | 'speed';
  readonly verdict: 'ok' | 'slow' | 'failed';
  readonly detail: string;
}

const SPEED_BUDGET_MS = 1;
const WARM_UP_RUNS = 50;
const TIMED_RUNS = 500;
/** For each text that is timed. */
const MAX_MEASURING_MS = 3_000;
/** Far above rounding in F32, far below a missing softmax. */
const SUM_TOLERANCE = 1e-3;

/** Short, empty, long, of other scripts: what must not upset a model. */
const PROBES = [
  'What is 17 plus 25?',
  'Write a Python function that adds two numbers.',
  '',
  ' \n\t',
  'word '.repeat(MAX_CHARS),
  'Сколько будет 2 + 2? 你好，世界 👩‍💻',
];

/** Goes as far as it can: what can't be looked at is left out. */
export async function checkRouter(dir: string): Promise<Finding[]> {
  let folder: RouterFolder;
  try {
    folder = await readRouter(dir);
  } catch (error) {
    return [failure('files', error)];
  }
  const { manifest } = folder;
  const { labels, threshold } = manifest;
  const known: Finding[] = [
    { what: 'files', verdict: 'ok', detail: `labels ${labels.join(', ')}; abstains below ${threshold.toFixed(3)}` },
    checkSize(folder),
  ];
  let started: LoadedRouter;
  try {
    started = await startRouter(folder);
  } catch (error) {
    return [...known, failure('start', error)];
  }
  const { session, classify } = started;
  const findings = [...known, ...checkGraph(manifest, session)];
  // A model with other inputs would only throw.
  if (findings.some((finding) => finding.verdict === 'failed')) return findings;
  const probabilities = await checkProbabilities(classify, manifest);
  return [...findings, probabilities, ...(probabilities.verdict === 'ok' ? [await measureSpeed(classify)] : [])];
}

function verdict(what: Finding['what'], isOk: boolean, detail: string): Finding {
  return { what, verdict: isOk ? 'ok' : 'failed', detail };
}

function failure(what: Finding['what'], error: unknown): Finding {
  return { what, verdict: 'failed', detail: error instanceof Error ? error.message : String(error) };
}

function checkGraph(manifest: RouterManifest, session: InferenceSession): Finding[] {
  // A transformer's has been looked at when it was started.
  if (manifest.kind === 'transformer')
    return [
      verdict('inputs', true, session.inputMetadata.map(describeValue).join(', ')),
      verdict('output', true, session.outputMetadata.map(describeValue).join(', ')),
    ];
  return [checkInputs(session), checkOutput(session)];
}

function checkSize(folder: RouterFolder): Finding {
  const parts = (['model', 'tokenizer'] as const).map((part) => ({
    part,
    bytes: folder[part].byteLength,
    limit: routerLimit(folder.manifest, part),
  }));
  return verdict(
    'size',
    parts.every(({ bytes, limit }) => bytes <= limit),
    parts.map(({ part, bytes, limit }) => `${part} ${formatBytes(bytes)} of ${formatBytes(limit)}`).join(', '),
  );
}

function checkInputs({ inputMetadata }: InferenceSession): Finding {
  const isOk =
    inputMetadata.length === 2 &&
    ['token_ids', 'hash_ids'].every((name) => inputMetadata.some((input) => isVector(input, name, 'int32')));
  const found = inputMetadata.map(describeValue).join(', ');
  return verdict(
    'inputs',
    isOk,
    isOk ? found : `${found || 'none'}; expected token_ids: int32 [any], hash_ids: int32 [any]`,
  );
}

function checkOutput({ outputMetadata }: InferenceSession): Finding {
  const output = outputMetadata.find(({ name }) => name === 'probabilities');
  const isOk = output?.isTensor === true && output.type === 'float32';
  const found = outputMetadata.map(describeValue).join(', ');
  return verdict('output', isOk, isOk ? found : `${found || 'none'}; expected probabilities: float32 [labels]`);
}

function isVector(value: InferenceSession.ValueMetadata, name: string, type: string): boolean {
  // A fixed length would take prompts of that length alone.
  return (
    value.name === name &&
    value.isTensor &&
    value.type === type &&
    value.shape.length === 1 &&
    typeof value.shape[0] !== 'number'
  );
}

function describeValue(value: InferenceSession.ValueMetadata): string {
  return value.isTensor ? `${value.name}: ${value.type} [${value.shape.join(', ')}]` : `${value.name}: no tensor`;
}

async function checkProbabilities(classify: Classify, { labels }: RouterManifest): Promise<Finding> {
  for (const text of PROBES) {
    const shown = JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
    try {
      const values = [...(await classify(text))];
      const sum = values.reduce((all, value) => all + value, 0);
      const isOk =
        values.length === labels.length &&
        values.every((value) => value >= 0 && value <= 1 + SUM_TOLERANCE) &&
        Math.abs(sum - 1) <= SUM_TOLERANCE;
      if (!isOk)
        return verdict(
          'probabilities',
          false,
          `${shown} gives [${values.map((value) => value.toFixed(4)).join(', ')}], of sum ${sum.toFixed(4)}; expected ${labels.length} probabilities of sum 1`,
        );
    } catch (error) {
      return verdict('probabilities', false, `${shown}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return verdict('probabilities', true, `sum to 1 on ${PROBES.length} texts`);
}

async function measureSpeed(classify: Classify): Promise<Finding> {
  const [short = '', long = ''] = [PROBES[0], PROBES[4]];
  await timesOf(classify, short, WARM_UP_RUNS);
  const times = await timesOf(classify, short, TIMED_RUNS);
  const [median = 0, tail = 0] = [times[times.length >> 1], times[Math.floor(0.99 * times.length)]];
  const longTimes = await timesOf(classify, long, TIMED_RUNS);
  const longMedian = longTimes[longTimes.length >> 1] ?? 0;
  return {
    what: 'speed',
    verdict: median <= SPEED_BUDGET_MS ? 'ok' : 'slow',
    detail: `${median.toFixed(3)} ms a short prompt (median; 99 % below ${tail.toFixed(3)} ms), ${longMedian.toFixed(3)} ms a long one, one thread; budget ${SPEED_BUDGET_MS} ms`,
  };
}

/** Milliseconds that so many runs take, or those that time allows; sorted. */
async function timesOf(classify: Classify, text: string, runs: number): Promise<number[]> {
  const times: number[] = [];
  const begun = performance.now();
  while (times.length < runs && performance.now() - begun < MAX_MEASURING_MS) {
    const started = performance.now();
    await classify(text);
    times.push(performance.now() - started);
  }
  return times.sort((a, b) => a - b);
}

/** @throws Problem naming what failed. */
export function requireUsable(dir: string, findings: readonly Finding[]): void {
  const failed = findings.filter((finding) => finding.verdict === 'failed');
  if (failed.length > 0)
    throw new Problem(`${dir}: the edge can't run this model: ${failed.map(({ what }) => what).join(', ')}`);
}
