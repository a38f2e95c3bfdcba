/**
 * A real `terraform` or `tofu` over a copy of the tree, in which modules of others are their stand-ins: no network, no providers, no state that stays.
 */
import { execFile } from 'node:child_process';
import { access, constants, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { STAND_INS } from '../checks/stand-ins.ts';
import { TERRAFORM_FOLDER } from '../checks/tree.ts';
import { readSchemas } from '../schemas/schema.ts';
import { type StandInProviders, startProviders } from './provider-server.ts';

export interface ToolResult {
  readonly code: number;
  /** Both streams, as they came. */
  readonly output: string;
}

/** The first of `terraform` and `tofu` on the PATH. */
export async function findTool(): Promise<string | undefined> {
  for (const name of ['terraform', 'tofu'])
    for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
      const file = path.join(folder, name);
      if (
        await access(file, constants.X_OK).then(
          () => true,
          () => false,
        )
      )
        return file;
    }
  return undefined;
}

export class TerraformCopy {
  /** Of the copy. */
  readonly folder: string;
  readonly #tool: string;
  readonly #providers: StandInProviders;

  private constructor(folder: string, tool: string, providers: StandInProviders) {
    this.folder = folder;
    this.#tool = tool;
    this.#providers = providers;
  }

  static async make(tool: string): Promise<TerraformCopy> {
    const folder = await mkdtemp(path.join(tmpdir(), 'signpost-terraform-'));
    for (const part of ['modules', 'examples', 'stand-ins']) {
      const filter = (source: string) => path.basename(source) !== '.terraform';
      await cp(path.join(TERRAFORM_FOLDER, part), path.join(folder, part), { recursive: true, filter });
    }
    await useStandIns(path.join(folder, 'modules'), folder);
    return new TerraformCopy(folder, tool, await startProviders((await readSchemas()).providers));
  }

  /** @param root folder in the copy: `examples/one-region` */
  run(root: string, ...args: readonly string[]): Promise<ToolResult> {
    const env = {
      ...process.env,
      TF_REATTACH_PROVIDERS: this.#providers.reattach,
      TF_CLI_CONFIG_FILE: '/dev/null',
      CHECKPOINT_DISABLE: '1',
    };
    return new Promise((resolve) => {
      execFile(
        this.#tool,
        args,
        { cwd: path.join(this.folder, root), env, maxBuffer: 2 ** 26 },
        (error, stdout, stderr) => {
          resolve({
            code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1,
            output: stdout + stderr,
          });
        },
      );
    });
  }

  async remove(): Promise<void> {
    await this.#providers.close();
    await rm(this.folder, { recursive: true });
  }
}

/** Sends calls of others' modules to their stand-ins. */
async function useStandIns(folder: string, copy: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.name.endsWith('.tf')) continue;
    const file = path.join(entry.parentPath, entry.name);
    let text = await readFile(file, 'utf8');
    for (const [source, standIn] of STAND_INS) {
      const there = path.relative(path.dirname(file), path.join(copy, path.relative(TERRAFORM_FOLDER, standIn)));
      text = text.replace(
        new RegExp(`source\\s*= "${source.replaceAll('.', '\\.')}"\\n\\s*version\\s*= .*`),
        `source = "${there}"`,
      );
    }
    await writeFile(file, text);
  }
}
