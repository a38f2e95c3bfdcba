import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type FetchHandler, HttpServer } from './http-server.ts';
import { answerStarting } from './starting.ts';

const HOST = '127.0.0.1';
let server: HttpServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function start(handler: FetchHandler): Promise<string> {
  server = new HttpServer(handler);
  return server.listen(HOST, 0);
}

/** A handler that answers when it is told to. */
function held() {
  let answer: (response: Response) => void = () => undefined;
  let arrive: () => void = () => undefined;
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const handler: FetchHandler = () => {
    arrive();
    return new Promise((resolve) => {
      answer = resolve;
    });
  };
  return { handler, arrived, answer: (response: Response) => answer(response) };
}

describe('an HTTP server', () => {
  it('is alive but not ready while the base loads, and then serves', async () => {
    const url = await start(answerStarting);
    const get = async (path: string) => (await fetch(`${url}${path}`)).status;
    expect([await get('/health/live'), await get('/health/ready'), await get('/v1/models')]).toEqual([200, 503, 503]);
    server?.serve(() => new Response('served'));
    expect(await (await fetch(`${url}/v1/models`)).text()).toBe('served');
  });

  it('keeps a connection longer than a tunnel or a load balancer before it would', async () => {
    const kept = (await fetch(await start(answerStarting))).headers.get('keep-alive');
    expect(Number(/^timeout=(\d+)$/.exec(kept ?? '')?.[1])).toBeGreaterThan(90);
  });

  it('names an address that is taken', async () => {
    const { port } = new URL(await start(answerStarting));
    await expect(new HttpServer(answerStarting).listen(HOST, Number(port))).rejects.toThrow(
      `can't listen on ${HOST}:${port} (EADDRINUSE)`,
    );
  });

  it('closes when the last answer has left, whole, and not before', async () => {
    const { handler, arrived, answer } = held();
    const url = await start(handler);
    const body = 'x'.repeat(4_000_000);
    const request = fetch(url).then((response) => response.text());
    await arrived;
    const order: string[] = [];
    const closed = server?.idle(30_000).then(async () => {
      order.push('idle');
      await server?.close();
    });
    // Readiness is still asked for meanwhile.
    server?.serve(answerStarting);
    expect((await fetch(`${url}/health/ready`)).status).toBe(503);
    order.push('answered');
    answer(new Response(body));
    expect(await request).toBe(body);
    await closed;
    expect(order).toEqual(['answered', 'idle']);
    await expect(fetch(url)).rejects.toThrow();
  });

  it('cuts what does not end in time', async () => {
    const { handler, arrived } = held();
    const url = await start(handler);
    const request = fetch(url);
    await arrived;
    await server?.idle(20);
    const cut = expect(request).rejects.toThrow();
    await server?.close();
    await cut;
  });

  it('is not held up by a connection that asks for nothing', async () => {
    const { port } = new URL(await start(answerStarting));
    const socket = connect(Number(port), HOST);
    await once(socket, 'connect');
    const began = performance.now();
    await server?.close();
    expect(performance.now() - began).toBeLessThan(400);
    socket.destroy();
  });
});
