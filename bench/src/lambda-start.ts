/**
 * A Lambda function's cold start, from its process to the first byte of its first answer, beside the same request to a function that runs. AWS's own share (finding
 * a machine, fetching the image) isn't in it: only AWS can show that.
 *
 *   npx tsx bench/src/lambda-start.ts [--base FOLDER] [--runs 5]
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { signingKey, signRequest } from '@signpost/contracts';
import { RuntimeApiServer } from '@signpost/gpu-backend/testing';

const SECRET = 's'.repeat(32);
const PATH = '/v1/completions';
const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    base: { type: 'string', default: join(root, 'models/demo/base') },
    runs: { type: 'string', default: '5' },
  },
});

/** Milliseconds from now to the answer's first byte. @throws Error where it is no answer. */
async function firstByteMs(api: RuntimeApiServer): Promise<number> {
  const body = JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 1, stream: true });
  const signed = { region: 'lambda', method: 'POST', path: PATH, body };
  const authorization = `Bearer ${await signRequest(signingKey(SECRET), signed, { tenant: undefined })}`;
  const began = performance.now();
  const { chunks } = api.invoke({
    version: '2.0',
    rawPath: PATH,
    headers: { authorization },
    requestContext: { http: { method: 'POST' } },
    body,
  });
  let ms: number | undefined;
  let answer = '';
  for await (const chunk of chunks) {
    ms ??= performance.now() - began;
    answer += Buffer.from(chunk).toString();
  }
  if (ms === undefined || !answer.startsWith('{"statusCode":200')) throw new Error(`the function answered ${answer}`);
  return ms;
}

const state = await mkdtemp(join(tmpdir(), 'signpost-lambda-start-'));
const [cold, warm]: [number[], number[]] = [[], []];
try {
  for (let run = 0; run < Number(values.runs); run++) {
    const api = await RuntimeApiServer.start();
    const child = spawn(process.execPath, [join(root, 'gpu-backend/bin/signpost-lambda.mjs'), '--log-level', 'error'], {
      env: {
        ...process.env,
        AWS_LAMBDA_RUNTIME_API: api.address,
        SIGNPOST_BASE: values.base,
        SIGNPOST_STORE: state,
        SIGNPOST_REGION: 'lambda',
        SIGNPOST_REGION_SECRET: SECRET,
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    cold.push(await firstByteMs(api));
    warm.push(await firstByteMs(api));
    child.kill('SIGKILL');
    await api.close();
  }
} finally {
  await rm(state, { recursive: true, force: true });
}
const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;
console.log(
  `cold ${median(cold).toFixed(0)} ms, warm ${median(warm).toFixed(1)} ms to the first byte (medians of ${cold.length})`,
);
