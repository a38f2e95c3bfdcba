/**
 * What linear layers must satisfy before a device may compute them.
 */
import type { Activations, DeviceConfig, LinearLayer } from './device.ts';

/** @throws RangeError for a parameter that doesn't exist, or whose shape isn't that of the activations. */
export function checkLayers(
  params: DeviceConfig['params'],
  x: Activations,
  layers: readonly LinearLayer<Activations>[],
): void {
  for (const { out, param } of layers) {
    const spec = params[param];
    if (spec === undefined) throw new RangeError(`parameter ${param} does not exist; there are ${params.length}`);
    const [outputs, inDim] = spec.shape;
    if (outputs !== out.cols || inDim !== x.cols) throw new RangeError(misfit(spec.shape, param, x, out));
  }
}

/** What is wrong with a matrix for these. */
export function misfit(
  [outputs, inDim = 0]: readonly number[],
  param: number,
  { cols: from }: Activations,
  { cols: to }: Activations,
): string {
  return `parameter ${param} is (${outputs}, ${inDim}), the activations are ${from} to ${to}`;
}
