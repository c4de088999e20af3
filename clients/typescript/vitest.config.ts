import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // Guards against hanging, not measurements: servers and browsers start on machines that are busy.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Each file starts servers of its own; two at once are enough for a small machine.
    maxWorkers: 2,
  },
});
