/**
 * What the console costs those who open it.
 */
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { bundleConsole } from './build.ts';

const MAX_GZIPPED_BYTES = 100 * 1024;

it('is at most 100 KiB gzipped, all its files together, and the same each time', async () => {
  const files = await bundleConsole();
  expect([...files.keys()].map((name) => name.replace(/-[0-9A-Z]{8}/, '-HASH')).sort()).toEqual([
    'console/console-HASH.css',
    'console/console-HASH.js',
    'console/index.html',
  ]);
  let bytes = 0;
  for (const contents of files.values()) bytes += gzipSync(contents, { level: 9 }).byteLength;
  expect(bytes).toBeLessThanOrEqual(MAX_GZIPPED_BYTES);
  expect([...(await bundleConsole()).keys()]).toEqual([...files.keys()]);
});

it('has nothing inline and nothing from elsewhere, as its policy allows none', async () => {
  const page = new TextDecoder().decode((await bundleConsole()).get('console/index.html'));
  expect(page).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/);
  for (const [, url] of page.matchAll(/(?:src|href)="([^"]*)"/g))
    expect(url).toMatch(/^(console-[0-9A-Z]{8}\.(js|css)$|data:image\/svg)/);
});
