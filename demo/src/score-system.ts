/**
 * A system that serves base, full fine-tunes and 1-bit experts side by side, for scoring: the fine-tunes are regions of their own, each with
 * its own base, and a rule sends `full-NAME` there.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { prepareDemoStore } from './family.ts';
import { DEMO_BASE, DEMO_EXPERTS, demoExpertDir } from './paths.ts';
import { type System, startSystem } from './system.ts';

export interface ScoredModel {
  readonly title: string;
  /** Name to ask the edge for. */
  readonly model: string;
  readonly bytes: number;
}

export interface ScoreSystem extends System {
  readonly models: readonly ScoredModel[];
}

export async function startScoreSystem(state?: string): Promise<ScoreSystem> {
  const store = await prepareDemoStore(state);
  const rules = DEMO_EXPERTS.map((name) => ({
    name: `full-${name}`,
    when: { model: `full-${name}` },
    then: { model: 'base', regions: [`full-${name}`] },
  }));
  // JSON is YAML.
  const routing = JSON.stringify({
    version: 1,
    rules: [...rules, { name: 'shared', then: { model: 'requested', regions: ['shared'] } }],
  });
  const regions = [
    { name: 'shared', store: store.url },
    ...DEMO_EXPERTS.map((name) => ({ name: `full-${name}`, base: demoExpertDir(name), store: store.url })),
  ];
  const system = await startSystem({ regions, edgePort: 0, routing });
  const fullBytes = async (dir: string) => (await stat(join(dir, 'model.safetensors'))).size;
  const models: ScoredModel[] = [{ title: 'base', model: 'base', bytes: await fullBytes(DEMO_BASE) }];
  for (const { name, version } of store.experts) {
    models.push({
      title: name,
      model: `full-${name}`,
      bytes: await fullBytes(demoExpertDir(name as (typeof DEMO_EXPERTS)[number])),
    });
    models.push({ title: `${name} 1-bit`, model: name, bytes: version.bytes });
  }
  return { ...system, models };
}
