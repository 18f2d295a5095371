/** Worlds with something in them, made through the use cases: what backups, exports and verifications are tried on. */

import type { Artifact, Store, StoreRecord } from "@docyard/core";
import { createIdSource } from "@docyard/core";
import * as fc from "fast-check";
import type { DockId, World } from "./world.ts";
import { artifactRow } from "./rows.ts";
import { bodyOf, bytesOf, sha256, stage } from "./world.ts";

/** One artifact, and how far it got. */
export interface Plan {
  readonly dock: DockId;
  readonly text: string;
  readonly fate: "completed" | "created" | "deleted" | "studio";
}

/** Few texts, so that docks share contents and have duplicates. */
export function plans(): fc.Arbitrary<Plan[]> {
  return fc.array(
    fc.record({
      dock: fc.constantFrom<DockId>("dock_a", "dock_b", "dock_z"),
      text: fc.constantFrom("", "a", "bb", "ccc", "dddd", "eeeee", "ffffff", "g", "hh", "iii"),
      fate: fc.constantFrom<Plan["fate"]>(
        "completed",
        "completed",
        "completed",
        "created",
        "deleted",
        "studio",
      ),
    }),
    { maxLength: 12 },
  );
}

export async function populate(world: World, todo: readonly Plan[]): Promise<void> {
  for (const { dock, text, fate } of todo) {
    world.advance(1_000);
    if (fate === "studio") {
      await addStudio(world, dock, text);
      continue;
    }
    const artifact = await add(world, dock, text, fate === "created");
    if (fate === "deleted") await (await world.writer(dock)).remove(artifact.id);
  }
}

/** A completed machine artifact with this text, perhaps an earlier one; or one that is staged and no more. */
export async function add(world: World, dock: DockId, text: string, isOpen = false): Promise<Artifact> {
  const writer = await world.writer(dock);
  const { artifact } = await writer.create({ filename: `${text}.txt`, metadata: { text, '"': ["\n"] } });
  await stage(world, artifact, bytesOf(text));
  if (isOpen) return artifact;
  return (await writer.complete({ uploadId: artifact.uploadId! })).artifact;
}

/** A completed Studio artifact with this text, as the worker leaves it: it shares the bytes of whoever has them. */
export async function addStudio(world: World, dockId: DockId, text: string): Promise<Artifact> {
  const at = world.now();
  const id = createIdSource(() => at).hex24();
  const digest = await sha256(bytesOf(text));
  const holder = await world.store.artifacts.findByDigest(dockId, digest);
  const storageKey = `docks/${dockId}/uploads/${id}/script`;
  const row = artifactRow({
    id,
    dockId,
    face: "studio",
    mediaType: "script",
    status: "upload_completed",
    source: { kind: "url", url: "https://example.com/a.txt?signature=secret" },
    filename: `${text}.txt`,
    size: text.length,
    digest,
    uploadId: null,
    stagingKey: null,
    storageKey,
    blobKey: holder?.blobKey ?? `${storageKey}-${digest}`,
    sharesBlob: holder !== null,
    createdAt: at,
    updatedAt: at,
  });
  if (holder === null) await world.blobs.put(row.blobKey!, bodyOf(bytesOf(text)), { sizeMax: 100 });
  await world.store.artifacts.insert(row, { type: "artifact.completed", at, by: null });
  return row;
}

export async function everything(store: Store): Promise<StoreRecord[]> {
  const records: StoreRecord[] = [];
  for await (const batch of store.dump()) records.push(...batch);
  return records;
}

export async function completedRows(store: Store): Promise<Artifact[]> {
  return (await store.artifacts.walk("", 1_000_000)).filter(({ status }) => status === "upload_completed");
}
