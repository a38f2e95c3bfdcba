/**
 * Takes the pictures of the console that the README and docs/console.md show: `npm run console-images -w @signpost/test`. A minute's traffic comes first, for something to be seen.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OPERATOR_KEY, startConsoleFleet } from './console-fleet.ts';
import { ConsolePage, launchBrowser } from './console-page.ts';

const IMAGES = join(import.meta.dirname, '../../docs/images');
const TRAFFIC_MS = 75_000;
const PAUSE_MS = 600;
const PROMPTS = [
  'What is 17 plus 25?',
  'Hi, how are you?',
  'How much is 9 times 3?',
  'Write a Python function that adds two numbers.',
];

const browser = await launchBrowser();
const fleet = await startConsoleFleet();
try {
  const { url } = fleet.edge;
  const ask = async (content: string) => {
    const body = JSON.stringify({ model: 'auto', stream: true, messages: [{ role: 'user', content }] });
    await (await fetch(`${url}/v1/chat/completions`, { method: 'POST', body })).text();
  };
  const until = Date.now() + TRAFFIC_MS;
  for (let i = 0; Date.now() < until; i++) {
    // Two at once now and then.
    await Promise.all(PROMPTS.slice(i % 4, (i % 4) + 1 + (i % 3 === 0 ? 1 : 0)).map(ask));
    await sleep(PAUSE_MS);
  }
  const look = await ConsolePage.open(browser, url);
  await look.page.setViewportSize({ width: 1180, height: 900 });
  const playground = await look.show('Playground');
  await playground.getByRole('button', { name: 'Send' }).click();
  await playground.getByText('Done', { exact: true }).waitFor();
  await look.picture('playground', join(IMAGES, 'console-playground.png'));
  await look.page.emulateMedia({ colorScheme: 'dark' });
  const panel = await look.show('Fleet');
  await look.giveKey('Fleet', OPERATOR_KEY);
  await panel.getByText(/p50 \d/).waitFor();
  await look.picture('fleet', join(IMAGES, 'console-fleet.png'));
} finally {
  await browser.close();
  await fleet.close();
}
