/**
 * The `retention` command: what the docks' rules say is too old, shown or deleted. The rules are `dock retention`'s,
 * what they mean is core's.
 */

import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { printSize } from "./measure.ts";
import { operate } from "./operator.ts";
import { list } from "./print.ts";
import { startProgress } from "./progress.ts";

export async function retention(said: Said, config: Config): Promise<Answer> {
  const dryRun = !said.has("apply");
  return operate(
    said,
    config,
    async ({ docyard, signal }) => {
      const progress = await startProgress({ noun: "artifacts" });
      try {
        const { docks, ...all } = await docyard.applyRetention({
          dryRun,
          signal,
          onProgress: ({ artifacts, bytes }) =>
            progress.tell("retention", { done: artifacts, total: null, bytes }),
        });
        const rows = Object.entries(docks).map(([dock, found]) => ({ dock, ...found }));
        const deed = dryRun ? "would be deleted (--apply deletes them)" : "deleted; their bytes go later";
        return {
          document: { dryRun, ...all, docks: rows },
          text: `${list(rows)}${all.artifacts} artifacts (${printSize(all.bytes)}) ${deed}\n`,
        };
      } finally {
        progress.stop();
      }
    },
    "what was deleted stays deleted; run it again to go on",
  );
}
