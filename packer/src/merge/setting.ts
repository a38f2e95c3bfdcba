/**
 * A parameter's value for one tensor, by mergekit's rules: a plain value, a gradient over the layers, or a list of values behind name filters.
 */
import { z } from 'zod';

const value = z.union([z.number(), z.boolean(), z.array(z.number()).min(1)]);
const conditional = z.strictObject({ value, filter: z.string().optional() });

export const settingSchema = z.union([value, conditional, z.array(conditional).min(1)], {
  error: 'expected a value, a list of numbers (a gradient over the layers), or a list of {filter, value}',
});
export type Setting = z.output<typeof settingSchema>;

/**
 * The value for the tensor called `name`, whose layer stands at `depth` (0 the first, 1 the last; 0 outside the layers).
 *
 * The first entry counts whose filter is part of the name, is `*` or is left out. `undefined` where none is: the next wider scope then decides.
 */
export function settingFor(setting: Setting, name: string, depth: number): number | boolean | undefined {
  const conditions = conditionsOf(setting);
  const match = conditions.find(({ filter }) => filter === undefined || filter === '*' || name.includes(filter));
  return Array.isArray(match?.value) ? gradient(match.value, depth) : match?.value;
}

function conditionsOf(setting: Setting): z.output<typeof conditional>[] {
  if (typeof setting !== 'object') return [{ value: setting }];
  if (!Array.isArray(setting)) return [setting];
  return setting.every((entry) => typeof entry === 'number') ? [{ value: setting }] : setting;
}

/** Linear between the listed points, which are spread evenly over the layers. */
function gradient(points: readonly number[], depth: number): number {
  const at = depth * (points.length - 1);
  const below = Math.floor(at);
  const [from = 0, to = from] = points.slice(below, below + 2);
  return from + (at - below) * (to - from);
}

const LAYER = /\.layers\.(?<layer>\d+)\./;

/** Where a tensor's layer stands among `layers`, from 0 to 1. The only layer there is counts as the last. */
export function layerDepth(name: string, layers: number): number {
  const layer = LAYER.exec(name)?.groups?.layer;
  if (layer === undefined) return 0;
  return layers === 1 ? 1 : Number(layer) / (layers - 1);
}
