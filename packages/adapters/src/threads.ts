/** What all threads have in common: whether one pays, and where its program lies. What they do is their starters' business. */

import { availableParallelism } from "node:os";

/** Whether a thread would have a processor to itself, and not only take turns with the main one. */
export function isThreadWorthwhile(processors: number = availableParallelism()): boolean {
  return processors > 1;
}

/** Sources end in `.ts`, what is built from them in `.js`. */
export function isSource(module: string): boolean {
  return module.endsWith(".ts");
}

/** The program of this name, which lies beside the module that starts it. */
export function threadProgram(name: string, module: string): URL {
  return new URL(`./${name}.${isSource(module) ? "ts" : "js"}`, module);
}
