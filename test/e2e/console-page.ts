/**
 * The console in a real browser, and what it must do on every page.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';

/** Debian's, unless another is named. */
const CHROMIUM = process.env.SIGNPOST_CHROMIUM ?? '/usr/bin/chromium';
/** Pictures of what was looked at; no part of the repository. */
const ARTEFACTS = join(import.meta.dirname, '../artefacts');
export const TABS = ['Playground', 'Fleet', 'Routing'] as const;
export type TabName = (typeof TABS)[number];

/** Why nothing can be looked at; undefined where it can, or must. */
export function whyNoBrowser(): string | undefined {
  if (existsSync(CHROMIUM) || process.env.SIGNPOST_REQUIRE_BROWSER === '1') return undefined;
  return `there is no ${CHROMIUM} (Debian: apt-get install chromium; SIGNPOST_CHROMIUM names another)`;
}

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
}

export class ConsolePage {
  readonly page: Page;
  /** What the browser complained of: policy violations, exceptions, files that aren't there. */
  readonly complaints: string[] = [];
  readonly #url: string;

  private constructor(page: Page, url: string) {
    this.page = page;
    this.#url = url;
  }

  /** @param edge its address */
  static async open(browser: Browser, edge: string): Promise<ConsolePage> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' });
    const page = await context.newPage();
    const opened = new ConsolePage(page, `${edge}/console/`);
    page.on('console', (message) => {
      // An answer that is an error is one that the page shows.
      const isAnswer = message.text().startsWith('Failed to load resource');
      if (['error', 'warning'].includes(message.type()) && !isAnswer) opened.complaints.push(message.text());
    });
    page.on('pageerror', (error) => opened.complaints.push(String(error)));
    await page.addInitScript(watchLayout);
    await page.goto(opened.#url);
    return opened;
  }

  tab(name: TabName) {
    return this.page.getByRole('tabpanel', { name });
  }

  async show(name: TabName) {
    await this.page.getByRole('tab', { name }).click();
    return this.tab(name);
  }

  async giveKey(name: TabName, key: string): Promise<void> {
    await this.tab(name).getByLabel('key', { exact: false }).fill(key);
    await this.tab(name).getByRole('button', { name: 'Use it' }).click();
  }

  /** What has moved without anybody's doing: how much in all, and which parts. */
  layoutShifts(): Promise<{ sum: number; parts: string[] }> {
    return this.page.evaluate('self.layoutShifts');
  }

  /** Violations of WCAG A and AA that axe finds in what is shown. */
  async violations(): Promise<string[]> {
    // By the debugger's way in: the page's policy lets no script in.
    await this.page.evaluate(axe.source);
    return this.page.evaluate(RUN_AXE);
  }

  /** Whether the page is wider than the window. */
  overflows(): Promise<boolean> {
    return this.page.evaluate('document.documentElement.scrollWidth > innerWidth');
  }

  async picture(name: string, path = join(ARTEFACTS, `console-${name}.png`)): Promise<void> {
    await mkdir(join(path, '..'), { recursive: true });
    await this.page.screenshot({ path });
  }
}

/** As Web Vitals counts: not what follows at once on what a user does. */
const watchLayout = `
  self.layoutShifts = { sum: 0, parts: [] };
  const nameOf = (node) => node?.nodeType === 1 ? node.tagName + '.' + node.className + ' ' + node.textContent.slice(0, 30) : node?.nodeName;
  new PerformanceObserver((list) => {
    for (const { hadRecentInput, value, sources } of list.getEntries()) {
      if (hadRecentInput) continue;
      self.layoutShifts.sum += value;
      self.layoutShifts.parts.push(...sources.map(({ node, previousRect, currentRect }) => nameOf(node) + ': ' + [previousRect, currentRect].map(({ x, y, width, height }) => [x, y, width, height].join(' ')).join(' to ')));
    }
  }).observe({ type: 'layout-shift', buffered: true });
`;

const RUN_AXE = `
  axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then(({ violations }) =>
    violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => id + ' at ' + target.join(' ') + ': ' + failureSummary)))
`;
