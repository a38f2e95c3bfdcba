/**
 * Where worker threads begin in the bundle, which has a file for each: see ../bundle.mjs.
 */
import { Worker } from 'node:worker_threads';
import type { startThread as startFromSources } from './threads.ts';

export const startThread: typeof startFromSources = (name, workerData, resourceLimits = {}) =>
  new Worker(new URL(`./${name}.mjs`, import.meta.url), { workerData, resourceLimits });
