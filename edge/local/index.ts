/**
 * The edge on this machine, for `npm start` and tests.
 */
export { buildWorker } from './build.ts';
export { type EdgeHandle, type EdgeLogLine, type EdgeOptions, startEdge } from './edge.ts';
