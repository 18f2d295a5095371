/**
 * Archives on a disk, in folders and in tar files: what core's laws promise over memory, with real files, real tars by
 * another program, and damage of every kind that a disk can do.
 */

import {
  chmod,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createReadStream, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { CopyPorts } from "@docyard/core";
import { backup, exportDock, restore, verify } from "@docyard/core";
import * as fc from "fast-check";
import { extract, pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { folderReader, folderWriter } from "../../packages/cli/src/archive-folder.ts";
import { tarHeader, tarReader, tarWriter } from "../../packages/cli/src/archive-tar.ts";
import { reading, writing } from "../../packages/cli/src/backup.ts";
import { readFilePart } from "../../packages/cli/src/files.ts";
import { completedRows, everything, plans, populate } from "../core/populate.ts";
import type { World } from "../core/world.ts";
import { bodyOf, bytesOf, createWorld } from "../core/world.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "docyard-archive-"));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function emptyPorts(): CopyPorts {
  const secret = new TextEncoder().encode("another secret of thirty-two bytes");
  return { store: memoryStore(), blobs: memoryBlobs({ baseUrl: "http://elsewhere.test", secret }) };
}

const PLAN = { kind: "backup", dock: null, isChecked: false } as const;

const backUp = (world: World, path: string, isChecked = false) =>
  writing(path, { ...PLAN, isChecked }, (archive) =>
    backup(world, archive, { version: "1.2.3", now: world.now }),
  );

async function restored(path: string): Promise<CopyPorts> {
  const there = emptyPorts();
  const { lost } = await reading(path, (archive) => restore(there, archive));
  expect(lost).toEqual([]);
  return there;
}

async function requireSame(there: CopyPorts, world: World): Promise<void> {
  expect(await everything(there.store)).toEqual(await everything(world.store));
  const report = await verify({ artifacts: there.store.artifacts, blobs: there.blobs }, { graceMs: 0 });
  expect({ findings: report.findings, orphans: report.orphans }).toEqual({ findings: [], orphans: [] });
}

/** Large enough to be more than one chunk, and of no round size. */
const LARGE = "0123456789".repeat(250_001);

async function filled(...texts: readonly string[]): Promise<World> {
  const world = await createWorld({ settings: { sizeMax: 10_000_000 } });
  for (const text of texts) await addLarge(world, text);
  return world;
}

/** `add`, without its bound on sizes. */
async function addLarge(world: World, text: string): Promise<void> {
  const writer = await world.writer("dock_a");
  const { artifact } = await writer.create({ filename: "large.txt" });
  await world.blobs.put(artifact.stagingKey!, bodyOf(bytesOf(text)), { sizeMax: 10_000_000 });
  await writer.complete({ uploadId: artifact.uploadId! });
}

async function filesIn(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => relative(root, join(parentPath, name)))
    .toSorted();
}

describe.each(["archive", "archive.tar"])("%s", (name) => {
  test("holds everything, and gives it back", async () => {
    let n = 0;
    await fc.assert(
      fc.asyncProperty(plans(), async (todo) => {
        const world = await createWorld();
        await populate(world, todo);
        const path = join(folder, `${n++}-${name}`);
        await backUp(world, path);
        await requireSame(await restored(path), world);
      }),
      { numRuns: 10 },
    );
  });

  test("of large blobs, and of none", async () => {
    for (const [n, world] of [await filled(LARGE, "", "a"), await filled()].entries()) {
      const path = join(folder, `${n}-${name}`);
      await backUp(world, path);
      await requireSame(await restored(path), world);
    }
  });

  test.each(["new/deep/backup", "backup.tar"])("is durable when it is done: %s", async (name) => {
    const world = await filled("one", LARGE);
    const synced = new Set<number>();
    const probe = await open(folder);
    const { prototype } = probe.constructor as { prototype: typeof probe };
    await probe.close();
    for (const method of ["sync", "datasync"] as const) {
      const real = prototype[method];
      vi.spyOn(prototype, method).mockImplementation(async function (this: typeof probe) {
        const { ino } = await this.stat();
        await real.call(this);
        synced.add(ino);
      });
    }
    await backUp(world, join(folder, name));
    vi.restoreAllMocks();
    const lost: string[] = [];
    for (const entry of [".", ...(await readdir(folder, { recursive: true }))]) {
      if (!synced.has((await stat(join(folder, entry))).ino)) lost.push(entry);
    }
    expect(lost).toEqual([]);
  });

  test("is its owner's alone", async () => {
    await backUp(await filled("a"), join(folder, name));
    const names = name.endsWith(".tar")
      ? [name]
      : (await filesIn(join(folder, name))).map((file) => join(name, file));
    expect(names.length).toBeGreaterThan(0);
    for (const file of names) expect((await stat(join(folder, file))).mode & 0o777).toBe(0o600);
  });

  test("leaves out a blob that turns out damaged, wherever it stands", async () => {
    const world = await filled("first", LARGE, "last");
    const large = (await completedRows(world.store)).find(({ size }) => size! > 1_000)!;
    await world.blobs.put(large.blobKey!, bodyOf(bytesOf(`${LARGE.slice(1)}!`)), { sizeMax: 10_000_000 });
    const path = join(folder, name);
    const { lost, manifest } = await backUp(world, path);
    expect(lost).toMatchObject([{ id: large.id, fault: "altered" }]);
    expect(manifest.counts).toMatchObject({ blobs: 2, lost: 1 });
    const there = emptyPorts();
    const report = await reading(path, (archive) => restore(there, archive));
    expect(report.lost).toMatchObject([{ id: large.id, fault: "absent" }]);
  });

  test("that was cut off says so", async () => {
    const path = join(folder, name);
    const world = await filled("a", "b");
    const blobs = {
      ...world.blobs,
      get: () => Promise.reject(new Error("away")),
      ready: () => Promise.reject(new Error("away")),
    };
    const cut = writing(path, PLAN, (archive) =>
      backup({ store: world.store, blobs }, archive, { version: "1" }),
    );
    await expect(cut).rejects.toThrow("away");
    // As SIGKILL leaves it, which tidies up nothing.
    if (name.endsWith(".tar")) await writeFile(`${path}.part`, "half");
    await expect(restored(path)).rejects.toThrow("is not complete");
    await backUp(world, path);
    await requireSame(await restored(path), world);
  });

  test("that two make at once is whole, or neither says that it is", async () => {
    const world = await filled("a", "b", "c");
    for (let n = 0; n < 10; n++) {
      const path = join(folder, `${n}-${name}`);
      const [one, other] = await Promise.allSettled([backUp(world, path), backUp(world, path)]);
      if (one.status === "fulfilled" || other.status === "fulfilled") {
        await requireSame(await restored(path), world);
      }
      for (const made of [one, other]) {
        if (made.status === "rejected")
          expect(String(made.reason)).toMatch(/another run|is there already|EEXIST/);
      }
      // Whatever is left of the two, the next one can do with.
      if (!name.endsWith(".tar")) {
        await backUp(world, path);
        await requireSame(await restored(path), world);
        expect((await readdir(path)).filter((one) => one.startsWith("records-"))).toHaveLength(1);
      }
    }
  });

  test.skipIf(name.endsWith(".tar"))("whose folders another run takes away says so", async () => {
    const path = join(folder, name);
    await expect(
      writing(path, PLAN, async (archive) => {
        await archive.writeRecords("records-1/one.ndjson", Buffer.from("{}\n"));
        const write = archive.writeRecords("records-1/two.ndjson", Buffer.from("{}\n"));
        rmSync(join(path, "records-1"), { recursive: true });
        await write;
      }),
    ).rejects.toThrow("another run has begun");
  });

  test("that another run began to make is that one's to finish", async () => {
    const path = join(folder, name);
    const world = await filled("a", "b");
    const begin = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    const slow = {
      ...world.blobs,
      get: async (...args: Parameters<typeof world.blobs.get>) => {
        began.resolve();
        await begin.promise;
        return world.blobs.get(...args);
      },
    };
    const late = writing(path, PLAN, (archive) =>
      backup({ store: world.store, blobs: slow }, archive, { version: "1" }),
    );
    await began.promise;
    await backUp(world, path);
    begin.resolve();
    await expect(late).rejects.toThrow("another run has begun");
    await requireSame(await restored(path), world);
  });

  test("that is none says so", async () => {
    const path = join(folder, name);
    await expect(restored(path)).rejects.toThrow(`${path}: no such file or folder (ENOENT)`);
    await expect(restored("")).rejects.toThrow("name one");
    if (name.endsWith(".tar")) {
      await writeFile(path, "x".repeat(2_000));
      await expect(restored(path)).rejects.toThrow("The archive is damaged: no tar header at 0");
      await writeFile(path, Buffer.alloc(10_240));
      await expect(restored(path)).rejects.toThrow("is no complete archive");
    } else {
      await mkdir(path);
      await expect(restored(path)).rejects.toThrow("is no archive");
    }
  });

  test("with one byte changed is found out", async () => {
    const world = await filled("a", LARGE, "b");
    const path = join(folder, name);
    await backUp(world, path);
    const names = name.endsWith(".tar") ? [path] : (await filesIn(path)).map((file) => join(path, file));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        async (which, where) => {
          const file = names[which % names.length]!;
          const handle = await open(file, "r+");
          const at = Math.floor(where * (await handle.stat()).size);
          const byte = Buffer.alloc(1);
          await handle.read(byte, 0, 1, at);
          const flip = async () => {
            byte[0]! ^= 0x10;
            await handle.write(byte, 0, 1, at);
          };
          await flip();
          const there = emptyPorts();
          try {
            const { lostCount } = await reading(path, (archive) => restore(there, archive)).catch(
              (error: Error) => {
                expect(error.message).toMatch(
                  /damaged|no docyard archive|no complete archive|format|has \d+|bytes of/,
                );
                return { lostCount: 0 };
              },
            );
            const report = await verify(
              { artifacts: there.store.artifacts, blobs: there.blobs },
              { graceMs: 0 },
            );
            expect(report).toMatchObject({ damaged: 0, missing: lostCount });
          } finally {
            await flip();
            await handle.close();
          }
        },
      ),
      { numRuns: 40 },
    );
    await requireSame(await restored(path), world);
  });
});

describe("a folder", () => {
  test("may be spelt as shells complete it", async () => {
    const world = await filled("a");
    for (const [n, spelt] of ["./archive", "archive/", ".//archive//", "x/../archive"].entries()) {
      const path = `${folder}/${n}/${spelt}`;
      await backUp(world, path);
      await requireSame(await restored(path), world);
    }
  });

  test("takes a second backup, reads nothing twice, and is whole at any moment", async () => {
    const world = await filled("a", "b");
    const path = join(folder, "archive");
    await backUp(world, path);
    const first = await everything(world.store);
    await addLarge(world, "c");
    // Cut off in the middle: the first one still stands.
    const failing = {
      ...world.blobs,
      get: () => Promise.reject(new Error("away")),
      ready: () => Promise.reject(new Error("away")),
    };
    const cut = writing(path, PLAN, (archive) =>
      backup({ store: world.store, blobs: failing }, archive, { version: "1" }),
    );
    await expect(cut).rejects.toThrow("away");
    expect(await everything((await restored(path)).store)).toEqual(first);
    const { kept } = await backUp(world, path);
    expect(kept).toBe(2);
    await requireSame(await restored(path), world);
    const names = await readdir(path);
    expect(names.filter((one) => one.startsWith("records-"))).toHaveLength(1);
    expect(names).not.toContain(".tmp");
  });

  test("syncs the folders of what it keeps: whoever wrote it may have been killed before", async () => {
    const path = join(folder, "archive");
    await backUp(await filled("one"), path);
    const [blob = ""] = (await filesIn(path)).filter((name) => name.startsWith("blobs/"));
    const { size } = await stat(join(path, blob));
    const archive = await folderWriter(path, PLAN);
    expect(await archive.holds(basename(blob), size)).toBe(true);
    // What it looks at, it misses.
    await rm(join(path, "blobs"), { recursive: true });
    await expect(archive.finish(await readFile(join(path, "docyard-archive.json")))).rejects.toThrow(
      blob.slice(0, 8),
    );
  });

  test("with --check, a blob that was damaged there is written again", async () => {
    const world = await filled("a", "b");
    const path = join(folder, "archive");
    await backUp(world, path);
    const blob = (await filesIn(path)).find((file) => file.startsWith("blobs/"))!;
    await writeFile(join(path, blob), "x");
    expect((await backUp(world, path)).kept).toBe(2);
    await expect(restored(path)).rejects.toThrow("to deeply equal []");
    expect((await backUp(world, path, true)).kept).toBe(1);
    await requireSame(await restored(path), world);
  });

  test("with other things in it is refused", async () => {
    await writeFile(join(folder, "diary.txt"), "mine");
    await expect(folderWriter(folder, PLAN)).rejects.toThrow(
      "holds diary.txt, which is no part of an archive",
    );
    expect(await readdir(folder)).toEqual(["diary.txt"]);
  });

  test("that holds an archive of other things is left as it is", async () => {
    const world = await filled("a");
    const path = join(folder, "archive");
    const exported = (dockId: string) =>
      writing(path, { kind: "export", dock: dockId, isChecked: false }, async (archive) => {
        const dock = (await world.store.accounts.find("dock", { id: dockId }))!;
        return exportDock(world, dock, archive, { version: "1.2.3", now: world.now });
      });
    await backUp(world, path);
    await expect(exported("dock_a")).rejects.toThrow("holds a backup, which would be lost");
    await requireSame(await restored(path), world);
    await rm(path, { recursive: true });
    await exported("dock_a");
    const before = await readFile(join(path, "docyard-archive.json"), "utf8");
    await expect(exported("dock_b")).rejects.toThrow("holds an export of dock dock_a, which would be lost");
    await expect(backUp(world, path)).rejects.toThrow("holds an export of dock dock_a, which would be lost");
    expect(await readFile(join(path, "docyard-archive.json"), "utf8")).toBe(before);
    await exported("dock_a");
    // What is damaged anyway is replaced.
    await writeFile(join(path, "docyard-archive.json"), before.slice(1));
    await backUp(world, path);
    await requireSame(await restored(path), world);
  });

  test("that cannot be written says why", async () => {
    const path = join(folder, "file");
    await writeFile(path, "");
    const inside = join(path, "archive");
    await expect(backUp(await filled(), inside)).rejects.toThrow(
      `${inside}: part of the path is not a folder (ENOTDIR)`,
    );
    await expect(backUp(await filled(), path)).rejects.toThrow(`${path}: a file is in the way (EEXIST)`);
    // What is above it is there, and takes no folders: an end comes all the same.
    await expect(backUp(await filled(), "/proc/docyard/archive")).rejects.toThrow("/proc/docyard/archive: ");
  });

  test("whose manifest has grown beyond measure is refused", async () => {
    const path = join(folder, "archive");
    await backUp(await filled(), path);
    await truncate(join(path, "docyard-archive.json"), 20 * 1024 ** 2);
    await expect(folderReader(path)).rejects.toThrow("too large");
  });
});

describe("a tar file", () => {
  test("is read by another tar, name by name and byte by byte", async () => {
    const world = await filled("a", LARGE, "");
    await backUp(world, join(folder, "archive"));
    await backUp(world, join(folder, "archive.tar"));
    const files: Record<string, Buffer> = {};
    const reader = extract();
    reader.on("entry", (header, stream, next) => {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk) => chunks.push(chunk as Buffer));
      stream.on("end", () => {
        expect(header).toMatchObject({ type: "file", mode: 0o600 });
        files[header.name] = Buffer.concat(chunks);
        next();
      });
    });
    await pipeline(createReadStream(join(folder, "archive.tar")), reader);
    const names = await filesIn(join(folder, "archive"));
    expect(Object.keys(files).toSorted()).toEqual(names);
    for (const name of names)
      expect(files[name]!.equals(await readFile(join(folder, "archive", name)))).toBe(true);
    // Whoever reads it as a stream knows at its end that it is whole.
    expect(Object.keys(files).at(-1)).toBe("docyard-archive.json");
  });

  test("that another tar made of a folder is restored", async () => {
    const world = await filled("a", LARGE, "");
    const root = join(folder, "archive");
    await backUp(world, root);
    const path = join(folder, "other.tar");
    const writer = pack();
    const writing = pipeline(writer, (await open(path, "w")).createWriteStream());
    writer.entry({ name: "./", type: "directory" });
    for (const name of await filesIn(root)) {
      // Times below a second make it write pax headers.
      writer.entry(
        { name: `./${name}`, pax: { mtime: "1234567890.123456789", path: `./${name}` } },
        await readFile(join(root, name)),
      );
    }
    writer.finalize();
    await writing;
    await requireSame(await restored(path), world);
  });

  test("has sizes that another tar understands, beyond what eight digits say", async () => {
    for (const size of [0, 1, 512, 8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 5 * 1024 ** 4]) {
      const header = tarHeader("blobs/ab/x", size, 1_700_000_000);
      const reader = extract();
      const said = new Promise<number | undefined>((resolve) => {
        reader.on("entry", (entry) => resolve(entry.size));
      });
      reader.write(header);
      if (size === 0) reader.write(Buffer.alloc(1_024));
      expect(await said).toBe(size);
      reader.destroy();
    }
    // And itself: a sparse file of which only the headers are read.
    const path = join(folder, "huge.tar");
    const handle = await open(path, "w");
    const size = 9 * 1024 ** 3;
    await handle.write(tarHeader("blobs/ab/x", size, 0), 0, 512, 0);
    const manifest = Buffer.from("{}");
    await handle.write(tarHeader("docyard-archive.json", manifest.length, 0), 0, 512, 512 + size);
    await handle.write(manifest, 0, manifest.length, 1_024 + size);
    await handle.truncate(1_024 + size + 512 + 1_024);
    await handle.close();
    const reader = await tarReader(path);
    expect(Buffer.from(reader.manifest)).toEqual(manifest);
    await reader.close();
  });

  test.each(["-1536", "-512", "1e999", "NaN"])(
    "with the size %j in a pax header is damaged",
    async (size) => {
      const path = join(folder, "forged.tar");
      const rest = ` size=${size}\n`;
      const pax = Buffer.from(`${rest.length + (rest.length < 9 ? 1 : 2)}${rest}`);
      const header = tarHeader("blobs/ab/x", pax.length, 0);
      header.write("x", 156, "latin1");
      header.write("        ", 148, "latin1");
      const sum = header.reduce((all, byte) => all + byte, 0);
      header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
      const data = Buffer.concat([pax], 512);
      await writeFile(
        path,
        Buffer.concat([header, data, tarHeader("blobs/ab/x", 0, 0), Buffer.alloc(1_024)]),
      );
      await expect(tarReader(path)).rejects.toThrow("no size in a pax header");
    },
  );

  test("that is there already is left alone", async () => {
    const path = join(folder, "a.tar");
    await writeFile(path, "an older backup");
    await expect(tarWriter(path)).rejects.toThrow("is there already");
    expect(await readFile(path, "utf8")).toBe("an older backup");
  });

  test("that was cut short is damaged, wherever it was cut", async () => {
    const world = await filled("a", "b");
    const path = join(folder, "a.tar");
    await backUp(world, path);
    const { size } = await stat(path);
    const whole = await readFile(path);
    // The last two blocks are zeros that tell the end.
    for (let at = 0; at < size - 1_536; at += 700) {
      await writeFile(path, whole.subarray(0, at));
      await expect(restored(path)).rejects.toThrow(/damaged|no complete archive/);
    }
  });

  test("left half done by a killed run starts anew", async () => {
    const world = await filled("a");
    const path = join(folder, "a.tar");
    await writeFile(`${path}.part`, "x".repeat(100_000), { mode: 0o644 });
    await chmod(`${path}.part`, 0o644);
    await backUp(world, path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(["a.tar"]);
    await rename(path, join(folder, "b.tar"));
    await requireSame(await restored(join(folder, "b.tar")), world);
  });

  test.each(["a.tar.gz", "a.tgz", "a.zip"])("%s is no archive that we make", async (name) => {
    await expect(backUp(await createWorld(), join(folder, name))).rejects.toThrow("compress it afterwards");
  });
});

test("a file that ends before its part does is told in the reader's words, after the bytes that there are", async () => {
  const path = join(folder, "file");
  await writeFile(path, "0123456789");
  const handle = await open(path, "r");
  const read: Buffer[] = [];
  try {
    const reading = async (): Promise<void> => {
      for await (const chunk of readFilePart(handle, 4, 10, () => new Error("it was changed"))) {
        read.push(Buffer.from(chunk));
      }
    };
    await expect(reading()).rejects.toThrow(/^it was changed$/);
  } finally {
    await handle.close();
  }
  expect(Buffer.concat(read).toString()).toBe("456789");
});
