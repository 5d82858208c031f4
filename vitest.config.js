import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 30_000,
    projects: [
      {
        extends: true,
        // One process for many files: half the time, and nothing here leaves anything behind.
        test: { name: 'unit', include: ['test/{unit,property}/**/*.test.ts'], isolate: false },
      },
      {
        extends: true,
        test: { name: 'brokers', include: ['test/{brokers,fault}/**/*.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'process',
          include: ['test/{process,package}/**/*.test.ts'],
          testTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
