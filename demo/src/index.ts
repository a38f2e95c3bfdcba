/**
 * The embedded demo: its experts, and the whole system on one machine.
 */
export { type DemoStore, prepareDemoStore } from './family.ts';
export { score, TASKS, type Task } from './score.ts';
export { type ScoredModel, type ScoreSystem, startScoreSystem } from './score-system.ts';
export { freePort, type RegionOptions, type System, type SystemOptions, startSystem } from './system.ts';
