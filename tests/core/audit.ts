/**
 * What must hold in every world at every moment, whatever raced or crashed in it: the promises of the design, read from
 * the stores themselves rather than through the use cases under test.
 */

import type { Artifact, ArtifactStatus } from "@docyard/core";
import { ARTIFACT_STATUSES, FACES, VISIBLE_STATUSES } from "@docyard/core";
import { expect } from "vitest";

import type { DockId, World } from "./world.ts";
import { DOCKS } from "./world.ts";

/** All rows of a dock but tombstones, read straight from the store. */
export async function rowsOf(
  world: World,
  dockId: DockId,
  statuses: readonly ArtifactStatus[] = VISIBLE_STATUSES,
): Promise<Artifact[]> {
  const rows: Artifact[] = [];
  for (const face of FACES) {
    let offset = 0;
    for (;;) {
      const page = await world.store.artifacts.find({
        dockId,
        face,
        statuses,
        start: { offset },
        limit: 1_000,
      });
      for (const { id } of page.rows) {
        const row = await world.store.artifacts.get({ id });
        if (row !== null) rows.push(row);
      }
      offset += page.rows.length;
      if (!page.more) break;
    }
  }
  return rows;
}

/**
 * Every completed artifact has, in the blob store, exactly the bytes that its digest says; a dock has one completed
 * machine artifact per content, and stores each content once.
 */
export async function audit(world: World): Promise<Artifact[]> {
  const completed: Artifact[] = [];
  for (const dockId of Object.keys(DOCKS) as DockId[]) {
    const rows = await rowsOf(world, dockId, ["upload_completed"]);
    completed.push(...rows);
    const machine = rows.filter((row) => row.face === "machine").map((row) => row.digest);
    expect(new Set(machine).size, `one completed machine artifact per content in ${dockId}`).toBe(
      machine.length,
    );
    const own = rows.filter((row) => !row.sharesBlob).map((row) => row.digest);
    expect(new Set(own).size, `each content stored once in ${dockId}`).toBe(own.length);
    for (const row of rows) {
      expect(row.blobKey, `${row.id} has bytes`).not.toBeNull();
      const found = await world.blobs.digest(row.blobKey!);
      expect(found, `${row.id} at ${row.blobKey}`).toEqual({ size: row.size, digest: row.digest });
      expect(row.failure).toBeNull();
    }
    await auditEvents(world, dockId);
  }
  return completed;
}

/** The log of a dock has no gaps, and says of each artifact what its row says. */
async function auditEvents(world: World, dockId: DockId): Promise<void> {
  const events = await world.store.artifacts.events(dockId, 0, 1_000_000);
  expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1));
  const ends = new Map<string, string[]>();
  for (const { artifactId, type } of events) {
    if (type === "artifact.completed" || type === "artifact.failed" || type === "artifact.deleted") {
      ends.set(artifactId, [...(ends.get(artifactId) ?? []), type]);
    }
  }
  for (const [id, types] of ends) {
    const row = await world.store.artifacts.get({ id });
    expect(new Set(types).size, `${id} ends once each way: ${types.join(", ")}`).toBe(types.length);
    const last = {
      upload_completed: "artifact.completed",
      upload_failed: "artifact.failed",
      deleted: "artifact.deleted",
      created: undefined,
      upload_started: undefined,
    }[row!.status];
    expect(types.at(-1), `last word on ${id}`).toBe(last);
  }
}

/** Rows of whatever status that are due. */
export async function dueRows({ store: { artifacts }, now }: World): Promise<Artifact[]> {
  const due = ARTIFACT_STATUSES.map((status) => artifacts.due({ status, until: now(), limit: 10 }));
  return (await Promise.all(due)).flat();
}

/**
 * After every window and grace period has passed and the sweeps have run: the blob store holds the bytes of completed
 * artifacts and not one more, and nothing is left to do.
 * @param options with `collectsGarbage` the operator's `gc` has run as well: only where other bytes followed a crash
 */
export async function auditCleanedUp(
  world: World,
  { collectsGarbage = false }: { readonly collectsGarbage?: boolean } = {},
): Promise<void> {
  const { uploadWindowMs, graceMs } = world.docyard.settings;
  const before = await audit(world);
  for (let round = 0; round < 3; round++) {
    world.advance(uploadWindowMs + graceMs + 1);
    const report = await world.docyard.sweep();
    expect(report.failures).toEqual([]);
    await world.docyard.sweepStaging();
  }
  if (collectsGarbage) await world.docyard.collectGarbage({ dryRun: false });
  const completed = await audit(world);
  expect(
    before.filter((row) => !completed.some(({ id }) => id === row.id)),
    "completed artifacts that cleaning up has lost",
  ).toEqual([]);
  const wanted = new Set(completed.map((row) => row.blobKey));
  const orphans = (await world.keys()).filter((key) => !wanted.has(key));
  expect(orphans, "bytes that no artifact wants").toEqual([]);
  expect(await dueRows(world), "rows that are still due").toEqual([]);
}
