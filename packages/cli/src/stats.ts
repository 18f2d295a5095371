/** `stats`: what each dock holds and may hold, and what all of them do. Counts are the store's own; nothing is read. */

import type { ArtifactStore } from "@docyard/core";
import { addUsage, NO_USAGE } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { migrateStore } from "./drivers.ts";
import { printRoughSize } from "./measure.ts";
import { operate } from "./operator.ts";
import { list, record } from "./print.ts";

export async function stats(said: Said, config: Config): Promise<Answer> {
  return operate(
    said,
    config,
    async ({ store, blobs }) => {
      const docks: {
        id: string;
        organizationId: string;
        artifacts: number;
        open: number;
        bytes: number;
        quota: unknown;
        lastEvent: number;
      }[] = [];
      let total = NO_USAGE;
      for (const { id, organizationId, quota = null } of await store.accounts.list("dock")) {
        const usage = await store.artifacts.usage(id);
        total = addUsage(total, usage);
        docks.push({ id, organizationId, ...usage, quota, lastEvent: await lastEvent(store.artifacts, id) });
      }
      // Opening the store has brought its tables up to date: this only says which they are.
      const { to: schema } = await migrateStore(config);
      const free = (await blobs.space?.()) ?? null;
      const document = { docks, total, schema, free };
      const table = docks.map(({ bytes, quota, ...dock }) => ({
        ...dock,
        bytes: printRoughSize(bytes),
        quota,
      }));
      const summary = record("Altogether:", {
        docks: docks.length,
        ...total,
        bytes: printRoughSize(total.bytes),
        free: free === null ? null : printRoughSize(free),
        schema,
      });
      return { document, text: `${list(table)}\n${summary}` };
    },
    "run it again",
  );
}

/** The highest sequence number, by doubling and halving: the store says of any number whether one comes after it. */
export async function lastEvent(artifacts: Pick<ArtifactStore, "events">, dockId: string): Promise<number> {
  const isPast = async (seq: number): Promise<boolean> =>
    (await artifacts.events(dockId, seq, 1)).length === 0;
  if (await isPast(0)) return 0;
  let low = 0;
  let high = 1;
  for (; !(await isPast(high)); high *= 2) low = high;
  // After `low` there is one, after `high` there is none.
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await isPast(middle)) high = middle;
    else low = middle;
  }
  return high;
}
