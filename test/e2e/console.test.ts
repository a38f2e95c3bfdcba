/**
 * The console as people use it: a real browser, the real Worker, two real regions.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConsoleFleet, OPERATOR_KEY, REGIONS, startConsoleFleet } from './console-fleet.ts';
import { ConsolePage, launchBrowser, TABS, whyNoBrowser } from './console-page.ts';

const why = whyNoBrowser();
if (why !== undefined) console.warn(`the console is not tested: ${why}`);

/** Heartbeats, the edge's copy of them, and the console's question. */
const SEEN_WITHIN_MS = 15_000;
/** A container counts for ten seconds after its last word. */
const SILENT_WITHIN_MS = 25_000;
const IN_FORCE_WITHIN_MS = 45_000;

const until = <T>(read: () => T, timeout = SEEN_WITHIN_MS) => expect.poll(read, { timeout, interval: 100 });

const LOOKS_AWAY = `
  Object.defineProperty(document, 'hidden', { value: true, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
`;
const LOOKS_AGAIN = `
  delete document.hidden;
  document.dispatchEvent(new Event('visibilitychange'));
`;

describe.skipIf(why !== undefined)('the console', () => {
  let fleet: ConsoleFleet;
  let browser: Browser;
  let look: ConsolePage;
  beforeAll(async () => {
    browser = await launchBrowser();
    fleet = await startConsoleFleet();
    look = await ConsolePage.open(browser, fleet.edge.url);
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.close();
  });

  async function classifier(): Promise<string> {
    const health = (await (await fetch(`${fleet.edge.url}/health`)).json()) as { classifier: { status: string } };
    return health.classifier.status;
  }

  async function ask(prompt: string, model = 'auto'): Promise<Response> {
    const body = JSON.stringify({ model, messages: [{ role: 'user', content: prompt }], max_tokens: 40 });
    const response = await fetch(`${fleet.edge.url}/v1/chat/completions`, { method: 'POST', body });
    expect([response.status, await response.text()]).toEqual([200, expect.anything()]);
    return response;
  }

  const admin = (path: string, init: RequestInit = {}) =>
    fetch(`${fleet.edge.url}/admin/${path}`, {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${OPERATOR_KEY}` },
    });

  /** How many containers of each region the edge has heard. */
  async function heard(): Promise<number[]> {
    const { regions } = (await (await admin('fleet')).json()) as { regions: { replicas: unknown[] }[] };
    return regions.map(({ replicas }) => replicas.length);
  }

  it('takes a prompt to its answer, and says how it came there', async () => {
    await until(classifier).toBe('ready');
    // Of a region that nothing is heard of, the plan has no prefill to show.
    await until(heard).toEqual([1, 1]);
    const panel = await look.show('Playground');
    await panel.getByLabel('Prompt').fill('What is 17 plus 25?');
    await panel.getByRole('button', { name: 'Send' }).click();
    const answer = panel.getByRole('region', { name: 'Answer', exact: true });
    await answer.getByText('Done', { exact: true }).waitFor();
    await until(() => answer.getByRole('region', { name: 'text' }).textContent()).toContain('42');
    const text = (await answer.textContent()) ?? '';
    expect(text).toMatch(/math9\d\.\d %/);
    expect(text).toMatch(/Rulemath/);
    expect(text).toMatch(/Regionfrankfurt/);
    expect(text).toMatch(/First token\d/);
    expect(text).toMatch(/Tokens\/s\d/);
    // Regions in their order, each with its sum's reasons.
    expect(text).toMatch(/1\. frankfurt.*network.*prefill.*2\. virginia.*network/s);
    // It was paged in, there and not elsewhere.
    await until(() => answer.locator('.experts').allTextContents()).toEqual(['math: ● resident', 'math: · cold']);
    await look.picture('playground-light');
  });

  it('compares a mixture by sliders with another model', async () => {
    const panel = look.tab('Playground');
    await panel.getByLabel('Compare two models').check();
    await panel.getByLabel('Model 1').selectOption({ label: 'a mixture …' });
    const sliders = panel.getByRole('group', { name: 'Mixture' });
    for (const [name, weight] of [
      ['chat', '0.3'],
      ['math', '1'],
      ['code', '0'],
    ] as const)
      await sliders.getByRole('slider', { name }).fill(weight);
    await panel.getByRole('button', { name: 'Send' }).click();
    for (const [i, model] of ['chat:0.3+math:1', 'base'].entries()) {
      const answer = panel.getByRole('region', { name: `Answer ${i + 1}`, exact: true });
      await answer.getByText('Done', { exact: true }).waitFor();
      expect(await answer.locator('.figures').textContent()).toContain(`Model${model}`);
    }
    await panel.getByLabel('Compare two models').uncheck();
    await panel.getByLabel('Model', { exact: true }).selectOption('auto');
  });

  it('stops an answer, and shows what went wrong as the edge says it', async () => {
    const panel = look.tab('Playground');
    const asked = '**/v1/chat/completions';
    await look.page.route(asked, () => undefined);
    await panel.getByRole('button', { name: 'Send' }).click();
    await panel.getByText('Answering …').first().waitFor();
    await panel.getByRole('button', { name: 'Stop' }).click();
    await panel.getByText('Stopped').first().waitFor();
    await look.page.unroute(asked);
    await look.page.route(asked, (route) => route.continue({ postData: '{"model":"nobody","messages":[]}' }));
    await panel.getByRole('button', { name: 'Send' }).click();
    await until(() => panel.getByRole('alert').allTextContents()).toContainEqual(expect.stringMatching(/messages/));
    await look.page.unroute(asked);
  });

  it('asks for an API key where the edge serves nobody without, and forgets it with the page', async () => {
    const closed = await ConsolePage.open(browser, fleet.edge.url);
    const { page } = closed;
    // As an edge that isn't everybody's answers.
    const error = { message: 'give an API key', type: 'authentication_error', param: null, code: 'missing_api_key' };
    await page.route('**/v1/**', async (route) => {
      const isGood = (await route.request().headerValue('authorization')) === 'Bearer sk-good';
      await (isGood ? route.continue() : route.fulfill({ status: 401, json: { error } }));
    });
    await page.reload();
    const panel = closed.tab('Playground');
    await closed.giveKey('Playground', 'sk-bad');
    await panel.getByText('give an API key').waitFor();
    await closed.giveKey('Playground', 'sk-good');
    await until(() => panel.getByLabel('API key').count()).toBe(0);
    await until(() => panel.getByLabel('Model', { exact: true }).locator('option').allTextContents()).toContain('math');
    expect(await page.evaluate('[localStorage.length, sessionStorage.length, document.cookie, location.href]')).toEqual(
      [0, 0, '', `${fleet.edge.url}/console/`],
    );
    await page.reload();
    await panel.getByLabel('API key').waitFor();
    await page.close();
  });

  it('opens the fleet to operators alone, and shows an expert being paged in', async () => {
    const panel = await look.show('Fleet');
    await look.giveKey('Fleet', 'not-an-operators-key');
    await until(() => panel.getByRole('alert').textContent()).toMatch(/key/);
    await look.giveKey('Fleet', OPERATOR_KEY);
    const row = panel.getByRole('row', { name: /^code stable/ });
    await until(() => row.getByRole('cell').allTextContents()).toEqual(['· cold', '· cold']);
    const region = (await ask('Write a Python function that adds two numbers.', 'code')).headers.get(
      'x-signpost-region',
    );
    const there = REGIONS.map(({ name }) => (name === region ? '● resident' : '· cold'));
    await until(() => row.getByRole('cell').allTextContents()).toEqual(there);
    await until(() => panel.getByRole('figure').first().textContent()).toMatch(/p50 \d/);
    await until(() => panel.getByRole('region', { name: 'virginia', exact: true }).textContent()).toMatch(
      /\d+ of \d+ blocks\d of 2 slots/,
    );
    expect(await panel.getByRole('region', { name: 'Catalogue', exact: true }).textContent()).toMatch(
      /math.*541\.8 KiBsign/,
    );
    await look.picture('fleet-light');
  });

  it('shows what is wrong with edited rules at its place, tries them, and puts them in force', async () => {
    const panel = await look.show('Routing');
    const editor = panel.getByLabel('routing.yaml');
    await until(() => editor.inputValue()).toContain('name: fallback');
    const good = (await editor.inputValue()).replace(
      'rules:\n',
      "rules:\n  - name: haikus\n    when: { prompt: '(?i)haiku' }\n    then: { model: math }\n",
    );

    await editor.fill(good.replace('(?i)haiku', '(?i)haiku('));
    await panel.getByRole('button', { name: 'Check and dry-run' }).click();
    const line = good.split('\n').findIndex((text) => text.includes("haiku'")) + 1;
    await panel.getByText(`Line ${line}:`).waitFor();
    expect(await editor.getAttribute('aria-invalid')).toBe('true');
    // What is wrong is what is selected.
    expect(await look.page.evaluate('getSelection().toString()')).toContain('haiku(');

    await editor.fill(good);
    await panel.getByRole('button', { name: 'Check and dry-run' }).click();
    await panel.getByText('Valid. Nothing was changed').waitFor();
    await panel.getByText(/Of the latest \d+ requests 0 would change/).waitFor();

    await panel.getByLabel('Prompts, one a line').fill('Write a haiku about rain.\nWhat is 2 plus 2?');
    await panel.getByRole('button', { name: 'Try', exact: true }).click();
    const outcomes = panel.getByRole('region', { name: 'Outcomes' });
    await until(() => outcomes.getByRole('row').allTextContents()).toEqual([
      'PromptLabelIn forceEdited',
      expect.stringMatching(/chat → chathaikus → math \(changed\)$/),
      expect.stringMatching(/math → mathmath → math$/),
    ]);

    await panel.getByRole('textbox', { name: 'Message' }).fill('haikus are counted');
    await panel.getByRole('button', { name: 'Put in force' }).click();
    await panel.getByText('Written as version 1').waitFor();
    await until(() => panel.getByRole('region', { name: 'Rules in force' }).textContent()).toMatch(
      /version 1.*by ada.*haikus/s,
    );
    expect(await (await admin('config')).json()).toMatchObject({
      version: 1,
      message: 'haikus are counted',
      text: good,
    });
    await look.picture('routing-light');
  });

  it('explains that somebody else has changed the rules meanwhile', async () => {
    const panel = look.tab('Routing');
    const editor = panel.getByLabel('routing.yaml');
    const text = await editor.inputValue();
    await editor.fill(`${text}# mine\n`);
    const theirs = await admin('config', { method: 'PUT', body: `${text}# theirs\n`, headers: { 'if-match': '"1"' } });
    expect(theirs.status).toBe(200);
    await panel.getByRole('button', { name: 'Put in force' }).click();
    await panel.getByText(/version 2, not 1: somebody has changed them/).waitFor();
    await panel.getByRole('button', { name: 'Take theirs, drop mine' }).click();
    await until(() => editor.inputValue()).toBe(`${text}# theirs\n`);
  });

  it('takes down whether a decision was right', async () => {
    const panel = look.tab('Routing');
    const decisions = panel.getByRole('region', { name: 'Latest decisions', exact: true });
    const id = (await ask('What is 3 plus 4?')).headers.get('x-request-id');
    await decisions.getByRole('button', { name: /^Show new: [1-9]/ }).click();
    await until(() => decisions.getByRole('row').nth(1).textContent()).toMatch(/mathmath \d/);
    const row = decisions.getByRole('row').nth(1);
    await row.getByRole('button', { expanded: false }).click();
    await decisions.getByText(id ?? 'no id', { exact: true }).waitFor();
    await row.getByRole('button', { name: /^Wrong/ }).click();
    await row.getByRole('combobox').selectOption('chat');
    await row.getByText('wrong: chat').waitFor();
    const kept = await (await fetch(`${fleet.edge.url}/v1/feedback`)).json();
    expect(kept).toMatchObject({ data: [{ decision_id: id, verdict: 'wrong', expected: 'chat', label: 'math' }] });
  });

  it('shows that a region was killed, and that another answers', async () => {
    await fleet.regions[0]?.stop('SIGKILL');
    const panel = await look.show('Fleet');
    const head = panel.getByRole('columnheader', { name: /^frankfurt/ });
    await until(() => head.textContent(), SILENT_WITHIN_MS).toMatch(/silent|failing/);
    await until(
      () =>
        panel
          .getByRole('row', { name: /^code stable/ })
          .getByRole('cell')
          .allTextContents(),
      SILENT_WITHIN_MS,
    ).toEqual(['not heard of', expect.anything()]);
    expect(await panel.getByRole('region', { name: 'frankfurt', exact: true }).textContent()).toContain(
      'No container has been heard from',
    );
    const playground = await look.show('Playground');
    await playground.getByRole('button', { name: 'Send' }).click();
    await playground.getByText('Done', { exact: true }).waitFor();
    expect(await playground.locator('.figures').textContent()).toContain('Regionvirginia');
  });

  it('asks nothing while nobody looks, and at once when somebody does', async () => {
    await look.show('Fleet');
    let asked = 0;
    look.page.on('request', (request) => {
      if (request.url().includes('/admin/fleet')) asked++;
    });
    await until(() => asked).toBeGreaterThan(0);
    await look.page.evaluate(LOOKS_AWAY);
    asked = 0;
    // Longer than it leaves between two questions; one may have been under way.
    await sleep(3_000);
    expect(asked).toBeLessThanOrEqual(1);
    await look.page.evaluate(LOOKS_AGAIN);
    await until(() => asked).toBeGreaterThan(1);
  });

  it('can be used with a keyboard alone', async () => {
    const { page } = look;
    await look.show('Playground');
    await page.getByRole('tab', { name: 'Playground' }).focus();
    await page.keyboard.press('ArrowRight');
    await look.tab('Fleet').waitFor();
    await page.keyboard.press('End');
    await look.tab('Routing').waitFor();
    await page.keyboard.press('Home');
    await look.tab('Playground').waitFor();
    const focused: string[] = [];
    // On through the page and out at its end: nothing keeps the focus.
    for (let i = 0; i < 40 && focused.at(-1) !== 'BODY'; i++) {
      await page.keyboard.press('Tab');
      focused.push(await page.evaluate('document.activeElement.tagName'));
    }
    expect(focused).toContain('BODY');
    expect(focused).toEqual(expect.arrayContaining(['TEXTAREA', 'SELECT', 'BUTTON', 'INPUT', 'SECTION', 'SUMMARY']));
  });

  it.each(['light', 'dark'] as const)('has no violation of WCAG A or AA, %s', async (colorScheme) => {
    await look.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const name of TABS) {
      await look.show(name);
      expect(await look.violations(), name).toEqual([]);
      await look.picture(`${name.toLowerCase()}-${colorScheme}`);
    }
  });

  it('fits a phone', async () => {
    await look.page.setViewportSize({ width: 360, height: 740 });
    for (const name of TABS) {
      await look.show(name);
      expect(await look.overflows(), name).toBe(false);
      await look.picture(`${name.toLowerCase()}-phone`);
    }
  });

  it('decides by the rules that were put in force', async () => {
    const rule = async () => (await ask('A haiku, please.')).headers.get('x-signpost-rule');
    await until(rule, IN_FORCE_WITHIN_MS).toBe('haikus');
  });

  it('has moved nothing by itself, and given its policy nothing to forbid, all the while', async () => {
    const { sum, parts } = await look.layoutShifts();
    expect(sum, parts.join('\n')).toBeLessThan(0.02);
    expect(look.complaints).toEqual([]);
  });
});
