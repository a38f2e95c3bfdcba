/**
 * Stand-ins for modules of others, which checks can't download: their interfaces.
 */
import path from 'node:path';
import { type Module, readModule } from './module.ts';
import { TERRAFORM_FOLDER } from './tree.ts';

/** Folders by the sources that they stand for. */
export const STAND_INS: ReadonlyMap<string, string> = new Map([
  ['terraform-aws-modules/ecs/aws//modules/cluster', path.join(TERRAFORM_FOLDER, 'stand-ins/ecs-cluster')],
]);

export async function readStandIns(): Promise<ReadonlyMap<string, Module>> {
  return new Map(
    await Promise.all([...STAND_INS].map(async ([source, folder]) => [source, await readModule(folder)] as const)),
  );
}
