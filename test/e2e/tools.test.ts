/**
 * The official OpenAI client's tool calls, with a base whose chat template takes tools: a region by itself.
 */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BackendHandle, startBackend } from '@signpost/gpu-backend';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const BASE = join(import.meta.dirname, '../../models/demo/base');
/** The marks by which the formats are known; what they write is Hermes', Llama's and Mistral's own. */
const TEMPLATES = {
  hermes: '{# <tool_call> #}',
  llama3: '{# <|python_tag|> #}',
  mistral: '{# [TOOL_CALLS] #}',
};
const BODY =
  '{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>{# tool_calls #}';

let dir: string;
const backends: BackendHandle[] = [];
const clients = new Map<string, OpenAI>();
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tools-'));
  for (const [format, mark] of Object.entries(TEMPLATES)) {
    const base = join(dir, format);
    await cp(BASE, base, { recursive: true });
    await writeFile(join(base, 'chat_template.jinja'), mark + BODY);
    const backend = await startBackend({
      base,
      store: dir,
      region: 'eu',
      port: 0,
      slots: 1,
      kvTokens: 4_096,
      logLevel: 'silent',
    });
    backends.push(backend);
    clients.set(format, new OpenAI({ baseURL: `${backend.url}/v1`, apiKey: 'none', maxRetries: 0 }));
  }
});
afterAll(async () => {
  for (const backend of backends) await backend.close();
  await rm(dir, { recursive: true, force: true });
});

const parameters = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Rome', 'Oslo'] }, days: { type: 'integer', minimum: 1, maximum: 7 } },
  required: ['city', 'days'],
};

describe.each(Object.keys(TEMPLATES))('tool calls as %s writes them', (format) => {
  it('are put together by the client as they were called, streamed and whole', async () => {
    const client = clients.get(format);
    if (client === undefined) throw new Error('not started');
    for (const seed of [1, 2]) {
      const request = {
        model: 'base',
        messages: [{ role: 'user' as const, content: 'Will it rain?' }],
        tools: [{ type: 'function' as const, function: { name: 'weather', parameters } }],
        tool_choice: 'required' as const,
        parallel_tool_calls: false,
        temperature: 1.3,
        seed,
        max_tokens: 150,
      };
      const { choices } = await client.chat.completions.create(request);
      expect(choices[0]?.finish_reason).toBe('tool_calls');
      const [call] = choices[0]?.message.tool_calls ?? [];
      if (call?.type !== 'function') throw new Error('no call');
      expect(call.function.name).toBe('weather');
      expect(JSON.parse(call.function.arguments)).toEqual({
        city: expect.stringMatching(/Rome|Oslo/),
        days: expect.any(Number),
      });
      const final = await client.chat.completions.stream(request).finalChatCompletion();
      const [streamed] = final.choices[0]?.message.tool_calls ?? [];
      expect(streamed?.type === 'function' && streamed.function).toMatchObject({
        name: 'weather',
        arguments: call.function.arguments,
      });
    }
  });
});
