import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two cores in CI, and most files start a real server and child processes.
    maxWorkers: 2,
    globalSetup: ['test/support/global-setup.ts'],
  },
})
