/**
 * Backup and restore, export and import, as laws over stores in memory: what goes in comes out, wherever they are cut
 * off, and nothing damaged passes. The file formats are tested with the command line.
 */

import type {
  ArchiveReader,
  Artifact,
  BlobStore,
  CopyPorts,
  Dock,
  Manifest,
  StoreRecord,
} from "@docyard/core";
import { backup, exportDock, importDock, isDocyardError, restore, verify } from "@docyard/core";
import { memoryStore } from "@docyard/adapters/store/memory";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { MemoryArchive } from "./memory-archive.ts";
import { collect, memoryArchive } from "./memory-archive.ts";
import { add, addStudio, completedRows, everything, plans, populate } from "./populate.ts";
import type { DockId, World } from "./world.ts";
import { bodyOf, bytesOf, createWorld, HOUR_MS, sha256 } from "./world.ts";

const VERSION = "1.2.3";
const TWO_DAYS_MS = 48 * HOUR_MS;

/** Nothing at all, not even a dock. */
function emptyPorts(): CopyPorts {
  const secret = new TextEncoder().encode("another secret of thirty-two bytes");
  return { store: memoryStore(), blobs: memoryBlobs({ baseUrl: "http://elsewhere.test", secret }) };
}

function backUp(world: World, archive: MemoryArchive) {
  return backup(world, archive, { version: VERSION, now: world.now });
}

/** Every completed artifact's bytes, as text. */
async function contents({ store, blobs }: CopyPorts): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const { id, blobKey } of await completedRows(store)) {
    texts[id] = new TextDecoder().decode(await collect((await blobs.get(blobKey!)).body));
  }
  return texts;
}

async function keysOf({ blobs }: CopyPorts): Promise<string[]> {
  return (await blobs.list("", { limit: 1_000_000 })).map(({ key }) => key);
}

async function requireWhole(ports: CopyPorts): Promise<void> {
  const report = await verify({ artifacts: ports.store.artifacts, blobs: ports.blobs }, { graceMs: 0 });
  expect({ findings: report.findings, orphans: report.orphans }).toEqual({ findings: [], orphans: [] });
}

/** The ports, where the nth call from now that writes is the last. */
function dyingAfter(ports: CopyPorts, writes: number): CopyPorts {
  let left = writes;
  const guarded =
    <A extends readonly unknown[], R>(call: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> => {
      if (left-- > 0) return call(...args);
      return Promise.reject(new Error("killed"));
    };
  return {
    store: {
      ...ports.store,
      load: guarded(ports.store.load),
      artifacts: { ...ports.store.artifacts, insert: guarded(ports.store.artifacts.insert) },
    },
    blobs: { ...ports.blobs, put: guarded(ports.blobs.put), delete: guarded(ports.blobs.delete) },
  };
}

async function ignoringDeath(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof Error) || error.message !== "killed") throw error;
  });
}

describe("backup and restore", () => {
  test("every answer is the same afterwards", async () => {
    await fc.assert(
      fc.asyncProperty(plans(), async (todo) => {
        const world = await createWorld();
        await populate(world, todo);
        const archive = memoryArchive();
        const { manifest, lost } = await backUp(world, archive);
        expect(lost).toEqual([]);
        const there = emptyPorts();
        const restored = await restore(there, archive.reader());
        expect(restored.lost).toEqual([]);
        expect(await everything(there.store)).toEqual(await everything(world.store));
        expect(await contents(there)).toEqual(await contents(world));
        await requireWhole(there);
        for (const dock of ["dock_a", "dock_b", "dock_z"]) {
          expect(await there.store.artifacts.usage(dock)).toEqual(await world.store.artifacts.usage(dock));
        }
        const digests = new Set((await completedRows(world.store)).map(({ digest }) => digest));
        expect(new Set(archive.blobs.keys())).toEqual(digests);
        expect(manifest.counts.blobs).toBe(digests.size);
      }),
      { numRuns: 60 },
    );
  });

  test("a restore that is killed at any write and run again ends the same", async () => {
    await fc.assert(
      fc.asyncProperty(plans(), fc.array(fc.nat({ max: 12 }), { maxLength: 3 }), async (todo, deaths) => {
        const world = await createWorld();
        await populate(world, todo);
        const archive = memoryArchive();
        await backUp(world, archive);
        const there = emptyPorts();
        for (const writes of deaths) {
          if (
            (await everything(there.store)).length > 0 &&
            !(await keysOf(there)).some((key) => key.includes("restore-"))
          )
            break;
          await ignoringDeath(restore(dyingAfter(there, writes), archive.reader()));
        }
        const isDone =
          (await everything(there.store)).length > 0 &&
          !(await keysOf(there)).some((key) => key.includes("restore-"));
        if (!isDone) await restore(there, archive.reader());
        expect(await everything(there.store)).toEqual(await everything(world.store));
        expect(await contents(there)).toEqual(await contents(world));
        await requireWhole(there);
        expect((await keysOf(there)).filter((key) => key.startsWith("incoming/"))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test("a backup that is run again keeps what it has, and is of the later moment", async () => {
    const world = await createWorld();
    for (const text of ["a", "b", "c"]) await add(world, "dock_a", text);
    const archive = memoryArchive();
    const stop = new AbortController();
    const stopped = backup(world, archive, {
      version: VERSION,
      now: world.now,
      signal: stop.signal,
      onProgress: ({ stage, done }) => {
        if (stage === "blobs" && done === 1) stop.abort(new Error("enough"));
      },
    });
    await expect(stopped).rejects.toThrow("enough");
    expect(archive.isComplete()).toBe(false);
    world.advance(1_000);
    await add(world, "dock_a", "d");
    const { kept, manifest } = await backUp(world, archive);
    expect(kept).toBeGreaterThan(0);
    expect(manifest.counts).toMatchObject({ artifacts: 4, blobs: 4, lost: 0 });
    const there = emptyPorts();
    await restore(there, archive.reader());
    expect(await contents(there)).toEqual(await contents(world));
  });

  test("damaged and missing bytes are told, and the rest is there", async () => {
    const world = await createWorld();
    const rows: Artifact[] = [];
    for (const text of ["a", "bb", "ccc", "dddd"]) rows.push(await add(world, "dock_a", text));
    await world.blobs.put(rows[1]!.blobKey!, bodyOf(bytesOf("xx")), { sizeMax: 9 });
    await world.blobs.delete(rows[2]!.blobKey!);
    const archive = memoryArchive();
    const { lost, manifest } = await backUp(world, archive);
    // Whichever was looked at twice first.
    expect(new Map(lost.map(({ id, fault }) => [id, fault]))).toEqual(
      new Map([
        [rows[1]!.id, "altered"],
        [rows[2]!.id, "missing"],
      ]),
    );
    expect(manifest.counts).toMatchObject({ artifacts: 4, blobs: 2, lost: 2 });
    const there = emptyPorts();
    const restored = await restore(there, archive.reader());
    expect(restored.lost.map(({ id, fault }) => [id, fault])).toEqual([
      [rows[1]!.id, "absent"],
      [rows[2]!.id, "absent"],
    ]);
    // Their rows are there: whoever sends the same bytes again makes them whole.
    expect(await completedRows(there.store)).toHaveLength(4);
  });

  test("bytes damaged in one dock and whole in others are whole in the archive, and there once", async () => {
    const world = await createWorld();
    const first = await add(world, "dock_a", "same");
    await add(world, "dock_b", "same");
    await add(world, "dock_z", "same");
    await world.blobs.delete(first.blobKey!);
    const archive = memoryArchive();
    const { lost, manifest } = await backUp(world, archive);
    expect(lost).toMatchObject([{ id: first.id, fault: "missing" }]);
    expect(manifest.counts).toMatchObject({ blobs: 1, bytes: 4, lost: 1 });
    const there = emptyPorts();
    expect((await restore(there, archive.reader())).lost).toEqual([]);
    await requireWhole(there);
  });

  test("what is deleted and swept while the backup runs is in it as deleted", async () => {
    const world = await createWorld();
    const row = await add(world, "dock_a", "a");
    await add(world, "dock_a", "b");
    const blobs: BlobStore = {
      ...world.blobs,
      async get(key, options) {
        if (key === row.blobKey) {
          await (await world.writer("dock_a")).remove(row.id);
          world.advance(TWO_DAYS_MS);
          await world.docyard.sweep();
        }
        return world.blobs.get(key, options);
      },
    };
    const archive = memoryArchive();
    const report = await backup({ store: world.store, blobs }, archive, { version: VERSION, now: world.now });
    expect(report).toMatchObject({ amended: 1, lost: [] });
    const there = emptyPorts();
    expect((await restore(there, archive.reader())).lost).toEqual([]);
    expect((await there.store.artifacts.get({ id: row.id }))!.status).toBe("deleted");
    await requireWhole(there);
  });

  test("storage that is away ends the backup, and is no damage", async () => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const away = (): Promise<never> => Promise.reject(new Error("the bucket is away"));
    const archive = memoryArchive();
    const ports = { store: world.store, blobs: { ...world.blobs, get: away, ready: away } };
    await expect(backup(ports, archive, { version: VERSION })).rejects.toThrow("the bucket is away");
    expect(archive.isComplete()).toBe(false);
  });

  test("an archive that cannot be written ends the backup, and is no damage", async () => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const full = { ...memoryArchive(), writeBlob: () => Promise.reject(new Error("the disk is full")) };
    await expect(backup(world, full, { version: VERSION })).rejects.toThrow("the disk is full");
  });

  test("it goes into an empty place and nowhere else", async () => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const archive = memoryArchive();
    await backUp(world, archive);
    const before = await everything(world.store);
    await expect(restore(world, archive.reader())).rejects.toThrow("The store has rows already");
    expect(await everything(world.store)).toEqual(before);

    const there = emptyPorts();
    await there.blobs.put("docks/x", bodyOf(bytesOf("x")), { sizeMax: 1 });
    await expect(restore(there, archive.reader())).rejects.toThrow("The blob store has bytes already");
    expect(await everything(there.store)).toEqual([]);

    // Half a restore, then another archive; then half a restore beside other rows.
    const half = emptyPorts();
    await ignoringDeath(restore(dyingAfter(half, 2), archive.reader()));
    await add(world, "dock_a", "b");
    const later = memoryArchive();
    await backUp(world, later);
    await expect(restore(half, later.reader())).rejects.toThrow("has bytes already");
    const mixed = { store: (await createWorld()).store, blobs: half.blobs };
    await mixed.store.accounts.insert([{ kind: "organization", id: "org_other", name: "o", createdAt: 1 }]);
    await expect(restore(mixed, archive.reader())).rejects.toThrow("The store has rows already");
  });

  test("a changed byte anywhere in an archive never becomes a wrong answer", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), async (which, at, flip) => {
        const world = await createWorld();
        for (const text of ["a", "bb", "ccc"]) await add(world, "dock_a", text);
        const archive = memoryArchive();
        await backUp(world, archive);
        const parts = [...archive.records.values(), ...archive.blobs.values()];
        const part = parts[which % parts.length]!;
        part[at % part.length]! ^= flip;
        const there = emptyPorts();
        try {
          const { lost } = await restore(there, archive.reader());
          expect(lost).toMatchObject([{ fault: "damaged" }]);
          const report = await verify(
            { artifacts: there.store.artifacts, blobs: there.blobs },
            { graceMs: 0 },
          );
          expect(report).toMatchObject({ missing: 1, damaged: 0, orphaned: 0 });
        } catch (error) {
          if (!isDocyardError(error, "data_loss")) throw error;
          expect(error.message).toMatch(/^The archive is damaged/);
        }
      }),
      { numRuns: 60 },
    );
  });

  test.each([
    ["no JSON", "{", "This is no docyard archive"],
    ["other JSON", "[]", "This is no docyard archive"],
    ["another format", JSON.stringify({ format: "zip", version: 1 }), "This is no docyard archive"],
    ["a later version", JSON.stringify({ format: "docyard-archive", version: 2 }), "has format 2"],
    [
      "half a manifest",
      JSON.stringify({ format: "docyard-archive", version: 1, kind: "backup" }),
      "not whole",
    ],
  ])("%s is no manifest", async (_, text, message) => {
    const manifest = new TextEncoder().encode(text);
    const reader: ArchiveReader = { ...memoryArchiveReader(), manifest };
    await expect(restore(emptyPorts(), reader)).rejects.toThrow(message);
  });

  test("a manifest that names files elsewhere is refused", async () => {
    const world = await createWorld();
    const archive = memoryArchive();
    await backUp(world, archive);
    const { manifest } = archive.reader();
    const text = new TextDecoder().decode(manifest).replace(/"name": "[^"]*"/, '"name": "../../etc/passwd"');
    const reader = { ...archive.reader(), manifest: new TextEncoder().encode(text) };
    await expect(restore(emptyPorts(), reader)).rejects.toThrow("its manifest is not whole");
  });
});

function memoryArchiveReader(): Omit<ArchiveReader, "manifest"> {
  return { readRecords: () => Promise.reject(new Error("unread")), readBlob: async () => null };
}

describe("export and import", () => {
  const dockOf = async (world: World, id: DockId): Promise<Dock> =>
    (await world.store.accounts.find("dock", { id }))!;
  const exported = async (world: World, id: DockId): Promise<MemoryArchive> => {
    const archive = memoryArchive();
    await exportDock(world, await dockOf(world, id), archive, { version: VERSION, now: world.now });
    return archive;
  };
  const bring = async (world: World, archive: MemoryArchive, id: DockId, ports: CopyPorts = world) =>
    importDock(ports, archive.reader(), await dockOf(world, id), { by: "operator", now: world.now });

  /** What a client sees of a dock: contents by name and kind, whatever the ids. */
  const shown = async (world: CopyPorts, dockId: string): Promise<string[]> => {
    const texts = await contents(world);
    return (await completedRows(world.store))
      .filter((row) => row.dockId === dockId)
      .map(({ id, face, filename, metadata, createdAt }) =>
        JSON.stringify([face, filename, metadata, createdAt, texts[id]]),
      )
      .toSorted();
  };

  test("an export is a dock's completed artifacts, and an import brings them all, once", async () => {
    await fc.assert(
      fc.asyncProperty(plans(), async (todo) => {
        const world = await createWorld();
        await populate(world, todo);
        const archive = await exported(world, "dock_a");
        const other = await createWorld();
        const first = await bring(other, archive, "dock_b");
        const once = await everything(other.store);
        expect(first).toMatchObject({ present: 0, duplicates: 0, renamed: 0, lost: [] });
        expect(await shown(other, "dock_b")).toEqual(await shown(world, "dock_a"));
        await requireWhole(other);
        // A second time changes nothing.
        const second = await bring(other, archive, "dock_b");
        expect(second).toMatchObject({ imported: 0, present: first.imported, duplicates: 0 });
        expect(await everything(other.store)).toEqual(once);
        // Home again, it finds itself.
        const home = await everything(world.store);
        expect(await bring(world, archive, "dock_a")).toMatchObject({ imported: 0, duplicates: 0 });
        expect(await everything(world.store)).toEqual(home);
      }),
      { numRuns: 40 },
    );
  });

  test("into a dock that has some of it, or beside the same ids in another dock: nothing twice, nothing lost", async () => {
    await fc.assert(
      fc.asyncProperty(plans(), plans(), async (todo, other) => {
        const world = await createWorld();
        await populate(world, todo);
        const archive = await exported(world, "dock_a");
        await populate(world, other);
        const before = (await completedRows(world.store)).filter(({ dockId }) => dockId === "dock_b");
        const first = await bring(world, archive, "dock_b");
        expect(first.renamed).toBe(first.imported);
        const once = await everything(world.store);
        const second = await bring(world, archive, "dock_b");
        expect(second).toMatchObject({ imported: 0, present: first.imported, duplicates: first.duplicates });
        expect(await everything(world.store)).toEqual(once);
        const after = (await completedRows(world.store)).filter(({ dockId }) => dockId === "dock_b");
        expect(after).toHaveLength(before.length + first.imported);
        world.advance(TWO_DAYS_MS);
        await world.docyard.sweep();
        await requireWhole(world);
      }),
      { numRuns: 40 },
    );
  });

  test("an import that is killed at any write and run again ends the same", async () => {
    await fc.assert(
      fc.asyncProperty(plans(), fc.array(fc.nat({ max: 8 }), { maxLength: 3 }), async (todo, deaths) => {
        const world = await createWorld();
        await populate(world, todo);
        const archive = await exported(world, "dock_a");
        const other = await createWorld();
        for (const writes of deaths) {
          await ignoringDeath(bring(other, archive, "dock_b", dyingAfter(other, writes)));
        }
        await bring(other, archive, "dock_b");
        expect(await shown(other, "dock_b")).toEqual(await shown(world, "dock_a"));
        await requireWhole(other);
      }),
      {
        numRuns: 40,
        examples: [
          // Machine and Studio at once: the one that is killed has placed what the other holds by then.
          [
            [
              { dock: "dock_a", text: "iii", fate: "studio" },
              { dock: "dock_a", text: "iii", fate: "completed" },
            ],
            [3],
          ],
        ],
      },
    );
  });

  test("no account, no secret, no signed URL is in it", async () => {
    const world = await createWorld();
    await addStudio(world, "dock_a", "a");
    const archive = await exported(world, "dock_a");
    const text = [...archive.records.values()].map((bytes) => new TextDecoder().decode(bytes)).join("");
    expect(text).toContain("https://example.com/a.txt");
    expect(text).not.toContain("secret");
    const records = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as StoreRecord);
    expect(new Set(records.map(({ kind }) => kind))).toEqual(new Set(["artifact"]));
  });

  test("each import is told in the log, with who did it", async () => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const archive = await exported(world, "dock_a");
    const other = await createWorld();
    await bring(other, archive, "dock_a");
    expect(await other.store.artifacts.events("dock_a", 0, 10)).toMatchObject([
      { seq: 1, type: "artifact.completed", by: "operator", data: { imported: true } },
    ]);
  });

  test("a dock that was deleted from gets it back under another id", async () => {
    const world = await createWorld();
    const { id } = await add(world, "dock_a", "a");
    const archive = await exported(world, "dock_a");
    await (await world.writer("dock_a")).remove(id);
    expect(await bring(world, archive, "dock_a")).toMatchObject({ imported: 1, renamed: 1 });
    expect(await bring(world, archive, "dock_a")).toMatchObject({ imported: 0, present: 1 });
    const [row] = await completedRows(world.store);
    expect(row!.id).not.toBe(id);
    expect(row!.id.slice(0, 14)).toBe(id.slice(0, 14));
  });

  test("a full dock stops it, and it goes on where there is room", async () => {
    const world = await createWorld();
    for (const text of ["a", "b", "c"]) await add(world, "dock_a", text);
    const archive = await exported(world, "dock_a");
    const other = await createWorld();
    await other.store.accounts.update("dock", "dock_a", { quota: { artifacts: 2 } });
    const error: unknown = await bring(other, archive, "dock_a").catch((one: unknown) => one);
    expect(isDocyardError(error, "quota_exceeded")).toBe(true);
    await requireWhole(other);
    await other.store.accounts.update("dock", "dock_a", { quota: { artifacts: 3 } });
    await bring(other, archive, "dock_a");
    expect(await shown(other, "dock_a")).toEqual(await shown(world, "dock_a"));
  });

  test("a row whose commit was not answered, and comes later, has its bytes", async () => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const archive = await exported(world, "dock_a");
    const other = await createWorld();
    const { store, blobs } = other;
    let commit = async (): Promise<void> => {};
    const insert: typeof store.artifacts.insert = async (...args) => {
      commit = () => store.artifacts.insert(...args);
      throw new Error("the connection was lost at the commit");
    };
    await expect(
      bring(other, archive, "dock_b", {
        blobs,
        store: { ...store, artifacts: { ...store.artifacts, insert } },
      }),
    ).rejects.toThrow("at the commit");
    await commit();
    expect(await shown(other, "dock_b")).toEqual(await shown(world, "dock_a"));
    await requireWhole(other);
    expect(await bring(other, archive, "dock_b")).toMatchObject({ imported: 0, present: 1 });
  });

  test.each([
    ["filename", { filename: "../etc/passwd" }],
    ["id", { id: "art_1" }],
    ["digest", { digest: "../../x" }],
    ["size", { size: null }],
    ["contentType", { contentType: "a/b\r\nSet-Cookie: x" }],
    ["metadata", { metadata: { deep: "x".repeat(70_000) } }],
    ["mediaType", { mediaType: "video" }],
    ["createdAt", { createdAt: 1e300 }],
    ["createdAt", { createdAt: Date.UTC(10_000, 0) }],
    ["source", { source: { kind: "file", path: "/etc/passwd" } }],
    ["status", { status: "deleted" }],
  ])("an artifact with an impossible %s is refused", async (name, change) => {
    const world = await createWorld();
    await add(world, "dock_a", "a");
    const archive = await exported(world, "dock_a");
    // Forged with care: sums and all.
    const [file, written] = [...archive.records][0]!;
    const record = JSON.parse(new TextDecoder().decode(written)) as { artifact: object };
    const forged = new TextEncoder().encode(
      `${JSON.stringify({ ...record, artifact: { ...record.artifact, ...change } })}\n`,
    );
    archive.records.set(file, forged);
    const manifest = JSON.parse(new TextDecoder().decode(archive.reader().manifest)) as Manifest;
    const files = [{ ...manifest.files[0], bytes: forged.length, sha256: await sha256(forged) }];
    await archive.finish(new TextEncoder().encode(JSON.stringify({ ...manifest, files })));
    const other = await createWorld();
    await expect(bring(other, archive, "dock_a")).rejects.toThrow(`no valid ${name}`);
    expect(await completedRows(other.store)).toEqual([]);
  });

  test("a backup is not imported, an export not restored", async () => {
    const world = await createWorld();
    const whole = memoryArchive();
    await backUp(world, whole);
    await expect(bring(world, whole, "dock_a")).rejects.toThrow("restore it");
    await expect(restore(emptyPorts(), (await exported(world, "dock_a")).reader())).rejects.toThrow(
      "import it",
    );
  });
});
