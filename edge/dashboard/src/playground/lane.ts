/**
 * One prompt to one model: its explanation, then its answer as it comes.
 */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { type Client, isAbort } from '../api/client.ts';
import { dataEvents } from '../api/events.ts';
import { asRefusal, type Refusal } from '../api/refusal.ts';
import type { Explanation } from '../api/types.ts';
import { advance, NOTHING_YET, type Progress } from './stream.ts';

interface Prompt {
  readonly text: string;
  readonly maxTokens: number;
  readonly temperature: number;
}

export interface Answer {
  readonly state: 'idle' | 'running' | 'done' | 'stopped' | 'failed';
  readonly explanation: Explanation | undefined;
  readonly progress: Progress;
  readonly region: string | undefined;
  readonly problem: Refusal | undefined;
}

export interface Lane extends Answer {
  readonly run: (prompt: Prompt, model: string) => Promise<void>;
  readonly stop: () => void;
}

const IDLE: Answer = {
  state: 'idle',
  explanation: undefined,
  progress: NOTHING_YET,
  region: undefined,
  problem: undefined,
};
const CHAT = '/v1/chat/completions';
/** When the explanation is asked for anew, for where the expert is now: regions' heartbeats come every two seconds. */
const LOOK_AGAIN_MS = [1_500, 4_000];

export function useLane(client: Client): Lane {
  const [answer, setAnswer] = useState(IDLE);
  const running = useRef<AbortController | undefined>(undefined);
  const stop = useCallback(() => running.current?.abort(), []);
  useEffect(() => stop, [stop]);
  // What was refused for want of a key is not, with another.
  useEffect(() => setAnswer((known) => (known.problem?.status === 401 ? IDLE : known)), [client]);

  const run = useCallback(
    async (prompt: Prompt, model: string) => {
      running.current?.abort();
      const controller = new AbortController();
      const { signal } = controller;
      running.current = controller;
      const update = (more: Partial<Answer>) => {
        if (running.current === controller) setAnswer((known) => ({ ...known, ...more }));
      };
      setAnswer({ ...IDLE, state: 'running' });
      const body = {
        model,
        messages: [{ role: 'user', content: prompt.text }],
        max_tokens: prompt.maxTokens,
        temperature: prompt.temperature,
      };
      const explain = () => client.json<Explanation>('api', '/v1/route', { method: 'POST', body, signal });
      try {
        update({ explanation: await explain() });
        const started = performance.now();
        const response = await client.ask('api', CHAT, {
          method: 'POST',
          body: { ...body, stream: true, stream_options: { include_usage: true } },
          signal,
        });
        update({ region: response.headers.get('x-signpost-region') ?? undefined });
        let progress = NOTHING_YET;
        for await (const data of dataEvents(response.body ?? new ReadableStream())) {
          if (data === '[DONE]') break;
          progress = advance(progress, data, performance.now() - started);
          update({ progress });
        }
        update({ state: 'done' });
      } catch (error) {
        if (isAbort(error)) update({ state: 'stopped' });
        else update({ state: 'failed', problem: asRefusal(error) });
        return;
      }
      try {
        for (const waitMs of LOOK_AGAIN_MS) {
          await abortableWait(waitMs, signal);
          update({ explanation: await explain() });
        }
      } catch {
        // The answer is there; where its expert is now can't be told.
      }
    },
    [client],
  );
  return { ...answer, run, stop };
}

function abortableWait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
