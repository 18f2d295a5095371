/**
 * The `retention` command: what the docks' rules say is too old, shown or deleted. The rules are `dock retention`'s,
 * what they mean is core's.
 */

import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { printSize } from "./measure.ts";
import { list } from "./print.ts";
import { wireOperator } from "./wire.ts";

export async function retention(said: Said, config: Config): Promise<Answer> {
  const dryRun = !said.has("apply");
  const parts = await wireOperator(config);
  try {
    const { docks, ...all } = await parts.docyard.applyRetention({ dryRun });
    const rows = Object.entries(docks).map(([dock, found]) => ({ dock, ...found }));
    const deed = dryRun ? "would be deleted (--apply deletes them)" : "deleted; their bytes go later";
    return {
      document: { dryRun, ...all, docks: rows },
      text: `${list(rows)}${all.artifacts} artifacts (${printSize(all.bytes)}) ${deed}\n`,
    };
  } finally {
    await parts.close();
  }
}
