import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['*/src/**/*.test.ts', 'edge/{local,cli,dashboard}/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['./test/shared-build.ts'],
    testTimeout: 60_000,
    hookTimeout: 180_000,
    // Three at a time: the end-to-end files start whole systems, and then mostly wait.
    maxWorkers: 3,
    reporters: ['default', './test/summary-reporter.ts'],
  },
});
