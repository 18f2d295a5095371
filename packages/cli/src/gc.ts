/** `gc`: core's garbage collection, which only counts unless it is told to apply what it found. */

import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { printRoughSize } from "./measure.ts";
import { operate } from "./operator.ts";
import { startProgress } from "./progress.ts";

export async function gc(said: Said, config: Config): Promise<Answer> {
  const applies = said.has("apply");
  return operate(
    said,
    config,
    async ({ docyard, signal }) => {
      const progress = await startProgress({ noun: "blobs" });
      try {
        const report = await docyard.collectGarbage({
          dryRun: !applies,
          signal,
          onProgress: ({ looked, bytes }) => progress.tell("gc", { done: looked, total: null, bytes }),
        });
        const { looked, garbage, bytes, strangers } = report;
        const deed = applies ? "removed" : "would be removed (run it with --apply)";
        const text =
          `${looked} blobs looked at: ${garbage} that no artifact wants, ${printRoughSize(bytes)}, ${garbage === 0 ? "nothing to remove" : deed}\n` +
          (strangers === 0
            ? ""
            : `${strangers} are of artifacts that this store does not know, and are left alone: is it an older backup?\n`);
        return { document: { applied: applies, ...report }, text };
      } finally {
        progress.stop();
      }
    },
    "what was removed stays removed; run it again to go on",
  );
}
