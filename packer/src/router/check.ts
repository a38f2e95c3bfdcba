/**
 * Whether a router model, trained here or elsewhere, is one that the edge can run: what the contract asks of its files, inputs and output, and how fast
 * it is. That it starts in workerd, too, is for test/e2e/router.test.ts to show.
 */
import { Problem } from '@signpost/contracts';
import { MAX_CHARS, ROUTER_LIMIT_BYTES, type RouterManifest } from '@signpost/contracts/router';
import type { InferenceSession } from 'onnxruntime-web';
import { formatBytes } from '../progress.ts';
import { type Classify, loadRouter } from './evaluate.ts';

/** `slow` is no failure: it may be the machine. */
export interface Finding {
  readonly what: 'files' | 'size' | 'inputs' | 'output' | 'probabilities' | 'speed';
  readonly verdict: 'ok' | 'slow' | 'failed';
  readonly detail: string;
}

const SPEED_BUDGET_MS = 1;
const WARM_UP_RUNS = 50;
const TIMED_RUNS = 500;
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
  let loaded: Awaited<ReturnType<typeof loadRouter>>;
  try {
    loaded = await loadRouter(dir);
  } catch (error) {
    return [{ what: 'files', verdict: 'failed', detail: error instanceof Error ? error.message : String(error) }];
  }
  const { manifest, session, classify } = loaded;
  const { labels, threshold } = manifest;
  const findings: Finding[] = [
    { what: 'files', verdict: 'ok', detail: `labels ${labels.join(', ')}; abstains below ${threshold.toFixed(3)}` },
    checkSize(manifest),
    checkInputs(session),
    checkOutput(session),
  ];
  // A model with other inputs would only throw.
  if (findings.some((finding) => finding.verdict === 'failed')) return findings;
  const probabilities = await checkProbabilities(classify, manifest);
  return [...findings, probabilities, ...(probabilities.verdict === 'ok' ? [await measureSpeed(classify)] : [])];
}

function verdict(what: Finding['what'], isOk: boolean, detail: string): Finding {
  return { what, verdict: isOk ? 'ok' : 'failed', detail };
}

function checkSize(manifest: RouterManifest): Finding {
  const parts = ['model', 'tokenizer'] as const;
  return verdict(
    'size',
    parts.every((part) => manifest[part].bytes <= ROUTER_LIMIT_BYTES[part]),
    parts
      .map((part) => `${part} ${formatBytes(manifest[part].bytes)} of ${formatBytes(ROUTER_LIMIT_BYTES[part])}`)
      .join(', '),
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
  const times: number[] = [];
  for (let run = 0; run < WARM_UP_RUNS + TIMED_RUNS; run++) {
    const started = performance.now();
    await classify(PROBES[run % 2] ?? '');
    if (run >= WARM_UP_RUNS) times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  const [median = 0, tail = 0] = [times[TIMED_RUNS >> 1], times[Math.floor(0.99 * TIMED_RUNS)]];
  return {
    what: 'speed',
    verdict: median <= SPEED_BUDGET_MS ? 'ok' : 'slow',
    detail: `${median.toFixed(3)} ms a prompt (median; 99 % below ${tail.toFixed(3)} ms), one thread; budget ${SPEED_BUDGET_MS} ms`,
  };
}

/** @throws Problem naming what failed. */
export function requireUsable(dir: string, findings: readonly Finding[]): void {
  const failed = findings.filter((finding) => finding.verdict === 'failed');
  if (failed.length > 0)
    throw new Problem(`${dir}: the edge can't run this model: ${failed.map(({ what }) => what).join(', ')}`);
}
