import { defineConfig } from "vitest/config";
import { NO_WASM_WRAPPERS } from "./tests/sources.ts";

/** Tests read the sources of every package, so nothing has to be built before them. */
const conditions = ["docyard-src"];

/** Watches the memory of a process, which grows while others keep its collector from running. */
const MEMORY_BOUND = "tests/adapters/blob-process.test.ts";

const project = (name: string, test: object = {}) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions: [...conditions, "node"] } },
  test: {
    name,
    include: [`tests/${name}/**/*.test.ts`],
    environment: "node" as const,
    // Not threads, each of which would run WebAssembly beside the others.
    pool: "forks" as const,
    execArgv: [NO_WASM_WRAPPERS],
    isolate: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    ...test,
  },
});

export default defineConfig({
  test: {
    // All processors: by default vitest leaves one free, which of two is half.
    maxWorkers: "100%",
    projects: [
      project("core"),
      project("adapters", { exclude: [MEMORY_BOUND] }),
      project("http"),
      // The examples' own tests, as their readers run them.
      project("examples", { include: ["examples/*/test/**/*.test.ts"] }),
      // Against real PostgreSQL, Redis and S3, which the setup starts: one file at a time, servers hang and die here.
      project("services", {
        globalSetup: "tests/services/setup.ts",
        fileParallelism: false,
        sequence: { groupOrder: 1 },
        testTimeout: 120_000,
        hookTimeout: 120_000,
      }),
      // Real processes, signals and files: one file at a time, each in a process of its own.
      project("e2e", {
        include: ["tests/e2e/**/*.test.ts", MEMORY_BOUND],
        isolate: true,
        fileParallelism: false,
        sequence: { groupOrder: 2 },
        testTimeout: 180_000,
      }),
    ],
  },
});
