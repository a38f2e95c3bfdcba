/**
 * `npm run docs -w @signpost/terraform`: writes READMEs' tables anew.
 */
import { writeFile } from 'node:fs/promises';
import { readPages } from './pages.ts';

for (const { file, is, shouldBe } of await readPages()) if (is !== shouldBe) await writeFile(file, shouldBe);
