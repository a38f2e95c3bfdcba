/**
 * `npm start`: the whole system on the embedded demo family, nine prompts through it, and a URL to go on with.
 */
import { randomBytes } from 'node:crypto';
import { Problem } from '@signpost/contracts';
import { type Column, formatBytes, formatTable } from '@signpost/packer';
import { Command, InvalidArgumentError } from 'commander';
import OpenAI from 'openai';
import { type Answer, ask } from './client.ts';
import { prepareDemoStore } from './family.ts';
import { DEMO_PROMPTS } from './prompts.ts';
import { startSystem } from './system.ts';

interface StartFlags {
  readonly once: boolean;
  readonly port: number;
  readonly backendPort: number;
}

const COLUMNS: readonly Column<Answer>[] = [
  { title: 'prompt', value: ({ prompt }) => prompt, max: 44 },
  { title: 'label', value: ({ label }) => label },
  { title: 'confidence', value: ({ confidence }) => confidence, align: 'right' },
  { title: 'expert', value: ({ expert }) => expert },
  { title: 'first token', value: ({ firstTokenMs }) => `${firstTokenMs.toFixed(0)} ms`, align: 'right' },
  { title: 'tokens/s', value: ({ tokensPerSecond }) => tokensPerSecond?.toFixed(0) ?? '–', align: 'right' },
  { title: 'answer', value: ({ text }) => text },
];

async function start(flags: StartFlags): Promise<void> {
  const store = await prepareDemoStore();
  for (const { name, version } of store.experts)
    console.log(`expert ${name}: ${version.digest.slice(0, 12)}, ${formatBytes(version.bytes)}`);
  const adminKey = randomBytes(16).toString('hex');
  const system = await startSystem({
    adminKey,
    regions: [{ name: 'local', store: store.url, port: flags.backendPort }],
    edgePort: flags.port,
  });
  try {
    // The first request sets it off: the table is to show labels, not a cold start.
    console.log(`classifier ${await system.classifierStarted()}`);
    // The Worker is open on this machine: no key is needed, but the client insists on one.
    const client = new OpenAI({ baseURL: `${system.url}/v1`, apiKey: 'none' });
    const answers: Answer[] = [];
    for (const prompt of DEMO_PROMPTS) answers.push(await ask(client, prompt));
    console.log(`\n${formatTable(COLUMNS, answers)}\n`);
    if (flags.once) return;
    console.log(`Signpost is up at ${system.url}. Try:\n\n${curl(system.url)}\n`);
    console.log(`Its console: ${system.url}/console/ (operator key of this run: ${adminKey})\n\nCtrl-C stops it.`);
    await stopRequested();
  } finally {
    await system.close();
  }
}

function curl(url: string): string {
  const body = JSON.stringify({
    model: 'auto',
    stream: true,
    messages: [{ role: 'user', content: 'What is 12 plus 30?' }],
  });
  return `curl -N ${url}/v1/chat/completions -H 'content-type: application/json' \\\n  -d '${body}'`;
}

function stopRequested(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535)
    throw new InvalidArgumentError('expected a port, 0 (any) to 65535');
  return value;
}

const program = new Command('npm start --')
  .description('Start Signpost on the embedded demo family')
  .option('--once', 'exit after the table', false)
  .option('--port <port>', "the Worker's port", port, 8787)
  .option('--backend-port <port>', "the backend's port", port, 8100)
  .action(start);

try {
  await program.parseAsync();
  process.exit();
} catch (error) {
  console.error(error instanceof Problem ? `signpost: ${error.message}` : error);
  process.exit(1);
}
