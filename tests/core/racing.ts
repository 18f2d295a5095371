/**
 * The dedup race as a helper for any store (lesson T-11): many uploads of the same bytes complete at the same moment,
 * round after round. What each store needs to open and close is its test's affair.
 */

import type { Completed, Store } from "@docyard/core";
import { expect } from "vitest";

import { audit, auditCleanedUp } from "./audit.ts";
import { bytesOf, createWorld, send, sha256 } from "./world.ts";

export interface RacingOptions {
  /** Uploads that complete at once, all of the same bytes. */
  readonly racers: number;
  readonly rounds: number;
  /** Completes sent for each of these uploads, all at once. Default 1. */
  readonly repeats?: number;
}

/**
 * In every round exactly one upload becomes the artifact, all others are told so, and the winner holds the bytes.
 * @throws whatever an assertion or the store throws
 */
export async function raceCompletes(openStore: () => Promise<Store>, options: RacingOptions): Promise<void> {
  const { racers, rounds, repeats = 1 } = options;
  const store = await openStore();
  try {
    const world = await createWorld({ store });
    const [reader, writer] = [await world.reader("dock_a"), await world.writer("dock_a")];
    for (let round = 0; round < rounds; round++) {
      const bytes = bytesOf(`content of round ${round}`);
      const digest = await sha256(bytes);
      const uploads = await Promise.all(
        Array.from({ length: racers }, async (_, index) => {
          const created = await writer.create({ filename: `${round}-${index}.txt` });
          expect(created.isDuplicate).toBe(false);
          expect((await send(world, created.upload!.url, bytes)).ok).toBe(true);
          return created.artifact;
        }),
      );
      const answers = await Promise.all(
        uploads.flatMap(({ uploadId }) =>
          Array.from({ length: repeats }, () => writer.complete({ uploadId: uploadId! })),
        ),
      );

      const winners = new Set(answers.map(({ artifact }) => artifact.id));
      expect(winners.size, `one winner in round ${round}`).toBe(1);
      const winner = answers[0]!.artifact;
      expect(winner).toMatchObject({ status: "upload_completed", digest, size: bytes.length });
      const isOwn = ({ isDuplicate }: Completed): boolean => !isDuplicate;
      expect(answers.filter(isOwn)).toHaveLength(repeats);
      const own = uploads.findIndex(({ id }) => id === winner.id);
      expect(answers.slice(own * repeats, (own + 1) * repeats).every(isOwn)).toBe(true);

      const { items, page } = await reader.list({ limit: 1 });
      expect(page.total).toBe(round + 1);
      if (round === 0) expect(items[0]?.artifact.id).toBe(winner.id);
      expect(await writer.create({ filename: "again.txt", hash: digest })).toMatchObject({
        isDuplicate: true,
        artifact: { id: winner.id },
      });
    }
    await audit(world);
    await auditCleanedUp(world);
  } finally {
    await store.close();
  }
}
