import { configDefaults, defineConfig } from 'vitest/config';

const CHAOS = 'test/chaos/**/*.test.ts';

export default defineConfig({
  test: {
    globalSetup: ['./test/shared-build.ts'],
    testTimeout: 60_000,
    hookTimeout: 180_000,
    reporters: ['default', './test/summary-reporter.ts'],
    // Three at a time: the end-to-end files start whole systems, and then mostly wait.
    maxWorkers: 3,
    projects: [
      {
        extends: true,
        test: {
          name: 'all but chaos',
          include: ['*/src/**/*.test.ts', 'edge/{local,cli,dashboard}/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, CHAOS],
        },
      },
      {
        extends: true,
        // Three regions and 64 streams fill a machine by themselves, and what they await of one another has time limits: one file at a time, when all others are done.
        test: {
          name: 'chaos',
          include: [CHAOS],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
