/**
 * The `retention` command: what the docks' rules say is too old, shown or deleted. The rules are `dock retention`'s,
 * what they mean is core's.
 */

import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_FAILURE, reasonOf } from "./failure.ts";
import { printRoughSize } from "./measure.ts";
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
        const { docks, failures, ...all } = await docyard.applyRetention({
          dryRun,
          signal,
          onProgress: ({ artifacts, bytes }) =>
            progress.tell("retention", { done: artifacts, total: null, bytes }),
        });
        if (failures.length > 0) process.exitCode = EXIT_FAILURE;
        const failed = failures.map(({ dockId, error }) => ({ dock: dockId, reason: reasonOf(error) }));
        const complaint = failed.length === 0 ? "" : `not followed to the end; try again:\n${list(failed)}`;
        const rows = Object.entries(docks).map(([dock, found]) => ({ dock, ...found }));
        const deed = dryRun ? "would be deleted (--apply deletes them)" : "deleted; their bytes go later";
        return {
          document: { dryRun, ...all, docks: rows, failed },
          text: `${list(rows)}${all.artifacts} artifacts (${printRoughSize(all.bytes)}) ${deed}\n${complaint}`,
        };
      } finally {
        progress.stop();
      }
    },
    "what was deleted stays deleted; run it again to go on",
  );
}
