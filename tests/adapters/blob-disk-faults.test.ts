/** The disk store when calls to the file system fail, one after the other, and the order of those that make it durable. */

import { rename, stat, utimes, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { DiskBlobs } from "@docyard/adapters/blob/disk";
import { ArrivedBody } from "../../packages/adapters/src/blob/body.ts";
import type { DiskFile, DiskIo } from "../../packages/adapters/src/blob/disk-io.ts";
import { nodeDiskIo } from "../../packages/adapters/src/blob/disk-io.ts";
import { permissiveHost } from "@docyard/adapters/conformance/blob-store";
import { isDocyardError } from "@docyard/core";
import { describe, expect, test } from "vitest";
import { bytesOfSize, chunksOf, digestOf, readAll, sha256 } from "./blob-bytes.ts";
import { filesBelow, openDisk, strayFilesAndKeys } from "./blob-harness.ts";

const MIB = 1024 * 1024;

interface Call {
  readonly name: string;
  /** Paths as `<name>` of temporary files and base names of others. */
  readonly paths: readonly string[];
  /** When it began and ended, in steps. */
  readonly begun: number;
  ended: number;
}

interface WatchedIo {
  readonly io: DiskIo;
  readonly calls: Call[];
  /** Makes the n-th call from now (from 1) reject with this code; calls before and after succeed. */
  failAt(n: number, code: string, only?: (call: string) => boolean): void;
  /** The call that failed, or null. */
  readonly failed: () => string | null;
}

/** Node's own calls, noted, and failing on demand; handles included. */
function watchedIo(): WatchedIo {
  const calls: Call[] = [];
  let step = 0;
  let countdown = Number.POSITIVE_INFINITY;
  let code = "";
  let only: (call: string) => boolean = () => true;
  let failed: string | null = null;

  const shown = (path: unknown): string => {
    const text = String(path);
    return text.includes("/.tmp/") ? `<${text.slice(text.lastIndexOf("-") + 1)}>` : basename(text);
  };
  const watched = async <T>(name: string, paths: readonly string[], run: () => Promise<T>): Promise<T> => {
    const call: Call = { name, paths, begun: ++step, ended: Number.POSITIVE_INFINITY };
    calls.push(call);
    if (only(name) && --countdown === 0) {
      failed = `${name} ${paths.join(" ")}`;
      // A failing close closes all the same, as it does on Linux.
      if (name === "close") await run();
      throw Object.assign(new Error(`${code}: made up, ${name}`), { code });
    }
    const result = await run();
    call.ended = ++step;
    return result;
  };

  const watchHandle = (handle: object, path: string): object =>
    new Proxy(handle, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== "function" || property === "constructor") return value;
        return (...args: unknown[]) =>
          watched(String(property), [path], () =>
            (value as (...args: unknown[]) => Promise<unknown>).apply(target, args),
          );
      },
    });

  const io = Object.fromEntries(
    (
      [
        "createFile",
        "createSyncedFile",
        "createWhole",
        "link",
        "lstat",
        "mkdir",
        "openFile",
        "openFolder",
        "readdir",
        "rename",
        "statfs",
        "unlink",
      ] as const
    ).map((name) => [
      name,
      (...args: unknown[]) => {
        const paths = args.filter((arg) => typeof arg === "string" && arg.startsWith("/")).map(shown);
        return watched(name, paths, async () => {
          const result = await (nodeDiskIo[name] as (...args: unknown[]) => Promise<unknown>)(...args);
          return /^(?:open|create.*File)/.test(name) ? watchHandle(result as object, paths[0]!) : result;
        });
      },
    ]),
  ) as unknown as DiskIo;
  return {
    io,
    calls,
    failAt(n, withCode, when = () => true) {
      countdown = n;
      code = withCode;
      only = when;
      failed = null;
    },
    failed: () => failed,
  };
}

const put = (blobs: DiskBlobs, key: string, bytes: Uint8Array) =>
  blobs.put(key, chunksOf(bytes), { sizeMax: bytes.byteLength });

/** As a PUT that came with its head. */
const putArrived = (blobs: DiskBlobs, key: string, bytes: Uint8Array) =>
  blobs.put(key, new ArrivedBody(bytes), { sizeMax: bytes.byteLength });

/** Long enough to be synced ahead more than once. */
const LONG_BYTES = 70 * MIB;

async function putLong(blobs: DiskBlobs, key: string): Promise<void> {
  const part = bytesOfSize(MIB);
  const body = async function* () {
    for (let at = 0; at < LONG_BYTES; at += part.byteLength) yield part;
  };
  await blobs.put(key, body(), { sizeMax: LONG_BYTES });
}

const syncsOf = (calls: readonly Call[]): Call[] => calls.filter(({ name }) => name === "datasync");

async function signedPut(blobs: DiskBlobs, key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const { url } = await blobs.signPut(key, {
    expiresAt: Date.now() + 60_000,
    sizeMax: 9 * MIB,
    artifactId: "art_1",
  });
  const headers = { "Content-Length": `${bytes.byteLength}` };
  await blobs.serve.fetch(new Request(url, { method: "PUT", headers, body: bytes }), permissiveHost());
}

async function contentDigest(blobs: DiskBlobs, key: string): Promise<string | null> {
  try {
    return sha256(await readAll((await blobs.get(key)).body));
  } catch (error) {
    if (isDocyardError(error, "not_found")) return null;
    throw error;
  }
}

/** More calls than any of these works makes. */
const FAULTS_MAX = 60;

describe("the n-th call fails", () => {
  const small = { before: bytesOfSize(700, 1), after: bytesOfSize(900, 2) };
  const large = { before: bytesOfSize(MIB + 9, 1), after: bytesOfSize(2 * MIB + 9, 2) };
  const works = {
    "put small": { ...small, run: (blobs: DiskBlobs) => put(blobs, "a/blob", small.after) },
    "put small at once": { ...small, run: (blobs: DiskBlobs) => putArrived(blobs, "a/blob", small.after) },
    "put large": { ...large, run: (blobs: DiskBlobs) => put(blobs, "a/blob", large.after) },
    "put large over small": {
      before: small.before,
      after: large.after,
      run: (blobs: DiskBlobs) => put(blobs, "a/blob", large.after),
    },
    "put small over large": {
      before: large.before,
      after: small.after,
      run: (blobs: DiskBlobs) => put(blobs, "a/blob", small.after),
    },
    "signed PUT small": { ...small, run: (blobs: DiskBlobs) => signedPut(blobs, "a/blob", small.after) },
    "signed PUT large": { ...large, run: (blobs: DiskBlobs) => signedPut(blobs, "a/blob", large.after) },
    "copy small": {
      ...small,
      run: (blobs: DiskBlobs) =>
        blobs.copy("in/from", "a/blob", { size: 900, digest: digestOf(small.after) }),
    },
    "copy large": {
      ...large,
      run: (blobs: DiskBlobs) =>
        blobs.copy("in/from", "a/blob", { size: large.after.byteLength, digest: digestOf(large.after) }),
    },
  };

  test.for(Object.keys(works) as (keyof typeof works)[])(
    "in %s, and nothing is torn or left behind",
    async (name) => {
      const { before, after, run } = works[name];
      const faults: string[] = [];
      let failures = 0;
      for (let n = 1; n < FAULTS_MAX; n++) {
        const watched = watchedIo();
        const { blobs, root, close } = await openDisk({ io: watched.io });
        try {
          await put(blobs, "a/blob", before);
          if (name.startsWith("copy")) await signedPut(blobs, "in/from", after);
          const files = await strayFilesAndKeys(root);
          watched.failAt(n, n % 2 === 0 ? "ENOSPC" : "EIO");
          const isResolved = await run(blobs).then(
            () => true,
            () => false,
          );
          const failed = watched.failed();
          watched.failAt(Number.POSITIVE_INFINITY, "");
          // Every call has had its turn.
          if (failed === null) break;
          failures++;
          const isTidying = failed.startsWith("unlink");
          const content = await contentDigest(blobs, "a/blob");
          const attested = (await blobs.stat("a/blob"))?.digest ?? null;
          const left = await strayFilesAndKeys(root);
          // The disk has recovered: the same work succeeds, and tidies up whatever was left of the name.
          await run(blobs);
          const verdicts = {
            // Unless only tidying up failed, the caller is told.
            "it resolved": isResolved && !isTidying,
            "it resolved with old bytes": isResolved && content !== digestOf(after),
            "bytes are torn": content !== digestOf(before) && content !== digestOf(after),
            "stat attests what is not there": attested !== null && attested !== content,
            [`it left ${left.join()}`]: !isTidying && left.join() !== files.join(),
            "repeating it does not help": (await contentDigest(blobs, "a/blob")) !== digestOf(after),
          };
          for (const [fault, isSo] of Object.entries(verdicts))
            if (isSo) faults.push(`${n} ${failed}: ${fault}`);
        } finally {
          await close();
        }
      }
      expect(faults).toEqual([]);
      expect(failures).toBeGreaterThanOrEqual(5);
      expect(failures).toBeLessThan(FAULTS_MAX - 1);
    },
  );

  test("a small body is gone again where part of it was written, and one that is too large is never begun", async () => {
    const begun: string[] = [];
    const io: DiskIo = {
      ...nodeDiskIo,
      async createWhole(path, mode, bytes) {
        begun.push(path);
        await nodeDiskIo.createWhole(path, mode, bytes.subarray(0, bytes.byteLength / 2));
        throw Object.assign(new Error("no room"), { code: "ENOSPC" });
      },
    };
    const { blobs, root, close } = await openDisk({ io });
    await expect(putArrived(blobs, "a/blob", bytesOfSize(900))).rejects.toMatchObject({ code: "no_space" });
    expect(begun).toHaveLength(1);
    const tooLarge = blobs.put("a/blob", new ArrivedBody(bytesOfSize(900)), { sizeMax: 899 });
    await expect(tooLarge).rejects.toMatchObject({ code: "too_large" });
    expect(begun).toHaveLength(1);
    expect(await strayFilesAndKeys(root)).toEqual([]);
    await close();
  });

  test("a full disk says so in words", async () => {
    const watched = watchedIo();
    const { blobs, root, close } = await openDisk({ io: watched.io });
    for (const [code, words] of [
      ["ENOSPC", "There is no space left on the blob disk"],
      ["EDQUOT", "The quota of the blob disk is used up"],
      ["EMFILE", "too many open files"],
    ] as const) {
      watched.failAt(1, code, (call) => call === (code === "EMFILE" ? "createFile" : "writev"));
      await expect(put(blobs, "blob", bytesOfSize(100))).rejects.toThrow(words);
    }
    expect(await filesBelow(root)).toEqual([]);
    // A name and a folder take room, too.
    const bytes = bytesOfSize(100);
    await signedPut(blobs, "in/from", bytes);
    for (const call of ["mkdir", "link", "openFolder", "rename"]) {
      watched.failAt(1, "ENOSPC", (name) => name === call);
      const copied =
        call === "rename"
          ? put(blobs, "a/blob", bytes)
          : blobs.copy("in/from", "a/blob", { size: 100, digest: digestOf(bytes) });
      await expect(copied).rejects.toMatchObject({ code: "no_space" });
    }
    await close();
  });

  test.each([
    ["is full", "ENOSPC", "There is no space left on the blob disk"],
    ["fails", "EIO", "EIO: made up, rest"],
    ["takes the rest", null, null],
  ])("a disk that takes half a write, and then %s", async (_, code, words) => {
    const halving = async (file: DiskFile): Promise<DiskFile> => {
      let n = 0;
      return {
        ...file,
        writev: async (chunks, at) => {
          if (++n === 1) return file.writev([Buffer.concat(chunks).subarray(0, 1_000)], at);
          if (code !== null) throw Object.assign(new Error(`${code}: made up, rest`), { code });
          return file.writev(chunks, at);
        },
      };
    };
    const { blobs, root, close } = await openDisk();
    const bytes = bytesOfSize(MIB + 3_000);
    await put(blobs, "before", bytes);
    const io: DiskIo = {
      ...nodeDiskIo,
      createFile: async (...args) => halving(await nodeDiskIo.createFile(...args)),
    };
    const halved = await openDisk({ root, io });
    const sent = put(halved.blobs, "blob", bytes);
    if (words === null) {
      await sent;
      expect(await contentDigest(halved.blobs, "blob")).toBe(digestOf(bytes));
    } else {
      await expect(sent).rejects.toThrow(words);
      expect(await halved.blobs.stat("blob")).toBeNull();
    }
    await halved.close();
    await close();
  });

  test("a disk that is full already is opened, for reading and for what makes room", async () => {
    const { blobs, root, close } = await openDisk();
    await put(blobs, "blob", bytesOfSize(100));
    const io: DiskIo = {
      ...nodeDiskIo,
      createFile: async () => Promise.reject(Object.assign(new Error("no room"), { code: "ENOSPC" })),
    };
    const full = await openDisk({ root, io });
    expect(await contentDigest(full.blobs, "blob")).toBe(digestOf(bytesOfSize(100)));
    await expect(full.blobs.ready()).rejects.toThrow("no space left");
    await full.blobs.delete("blob");
    expect(await full.blobs.stat("blob")).toBeNull();
    await full.close();
    await close();
  });

  test("after a failed sync the descriptor is closed and never used again", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    watched.failAt(1, "EIO", (call) => call === "datasync");
    const start = watched.calls.length;
    await expect(put(blobs, "blob", bytesOfSize(3 * MIB))).rejects.toThrow("EIO");
    const names = watched.calls.slice(start).map(({ name }) => name);
    expect(names.slice(names.indexOf("datasync"))).toEqual(["datasync", "close", "unlink"]);
    await put(blobs, "blob", bytesOfSize(3 * MIB));
    await close();
  });

  test("a failed sync of a part that was synced ahead fails the whole, though the last sync succeeds", async () => {
    const watched = watchedIo();
    const { blobs, root, close } = await openDisk({ io: watched.io });
    // The kernel tells of lost pages once: were this one overheard, nobody would ever know.
    watched.failAt(1, "EIO", (call) => call === "datasync");
    await expect(putLong(blobs, "blob")).rejects.toThrow("EIO");
    expect(watched.failed()).toMatch("datasync");
    expect(await filesBelow(root)).toEqual([]);
    // Nor does it stand in the way of the next.
    const start = watched.calls.length;
    await putLong(blobs, "blob");
    expect(syncsOf(watched.calls.slice(start)).length).toBeGreaterThan(1);
    await close();
  });

  test("a file system without hard links copies the bytes instead", async () => {
    for (const code of ["EPERM", "ENOTSUP", "EMLINK"]) {
      const watched = watchedIo();
      const { blobs, root, close } = await openDisk({ io: watched.io });
      for (const size of [0, 100, 2 * MIB + 3]) {
        const bytes = bytesOfSize(size);
        await put(blobs, "from", bytes);
        watched.failAt(1, code, (call) => call === "link");
        expect(await blobs.copy("from", `to-${size}`, { size, digest: digestOf(bytes) })).toBe(true);
        expect(await blobs.stat(`to-${size}`)).toEqual({ size, digest: digestOf(bytes) });
        expect(await contentDigest(blobs, `to-${size}`)).toBe(digestOf(bytes));
        watched.failAt(1, code, (call) => call === "link");
        expect(await blobs.copy("from", "never", { size, digest: "00".repeat(32) })).toBe(false);
      }
      expect(await strayFilesAndKeys(root)).toEqual(["from", "to-0", "to-100", `to-${2 * MIB + 3}`].sort());
      await close();
    }
  });
});

describe("durability is a matter of order", () => {
  const nameOf = ({ name, paths }: Call): string => `${name} ${paths.join(" ")}`;
  /** What one piece of work does, without the reads. */
  async function trace(watched: WatchedIo, work: () => Promise<unknown>): Promise<Call[]> {
    const start = watched.calls.length;
    await work();
    return watched.calls.slice(start);
  }
  const find = (calls: readonly Call[], pattern: RegExp): Call => {
    const call = calls.find((one) => pattern.test(nameOf(one)));
    if (call === undefined) throw new Error(`${String(pattern)} not in:\n${calls.map(nameOf).join("\n")}`);
    return call;
  };
  /** Those calls that had not ended when the next one of the list began. */
  const outOfOrder = (calls: readonly Call[], patterns: readonly RegExp[]): string[] => {
    const found = patterns.map((pattern) => find(calls, pattern));
    return found
      .filter(({ ended }, i) => ended >= (found[i + 1]?.begun ?? Number.POSITIVE_INFINITY))
      .map(nameOf);
  };

  test("put: bytes synced, then named, then the folder synced, then resolved", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    await put(blobs, "folder/first", bytesOfSize(1));
    const small = await trace(watched, () => put(blobs, "folder/blob", bytesOfSize(900)));
    expect(outOfOrder(small, [/^writev </, /^datasync </, /^rename <\w+> blob$/, /^sync folder$/])).toEqual(
      [],
    );
    const arrived = await trace(watched, () => putArrived(blobs, "folder/arrived", bytesOfSize(900)));
    expect(outOfOrder(arrived, [/^createWhole </, /^rename <\w+> arrived$/, /^sync folder$/])).toEqual([]);
    const large = await trace(watched, () => put(blobs, "folder/large", bytesOfSize(2 * MIB)));
    expect(
      outOfOrder(large, [
        /^writev </,
        /^datasync </,
        /^rename <\w+> large\.crc$/,
        /^rename <\w+> large$/,
        /^sync folder$/,
      ]),
    ).toEqual([]);
    // The sidecar's one write is its sync as well.
    const [sidecar] = find(large, /^createSyncedFile </).paths;
    expect(outOfOrder(large, [new RegExp(`^writev ${sidecar}$`), /^rename <\w+> large\.crc$/])).toEqual([]);
    expect(find(large, /^datasync </).ended).toBeLessThan(find(large, /^rename/).begun);
    await close();
  });

  test("a long body is synced while it comes, one body at a time, and once more when it is all there", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    const calls = await trace(watched, () => Promise.all([putLong(blobs, "one"), putLong(blobs, "two")]));
    const writes = calls.filter(({ name }) => name === "writev");
    const bodies = [find(calls, /^rename <\w+> one$/), find(calls, /^rename <\w+> two$/)].map(
      ({ paths }) => paths[0],
    );
    const ahead = bodies.flatMap((path) => {
      const syncs = syncsOf(calls).filter(({ paths }) => paths[0] === path);
      const lastWrite = writes.findLast(({ paths }) => paths[0] === path)!;
      expect(syncs.at(-1)!.begun).toBeGreaterThan(lastWrite.ended);
      expect(syncs.at(-1)!.ended).toBeLessThan(find(calls, new RegExp(`^rename ${path} `)).begun);
      return syncs.slice(0, -1);
    });
    expect(ahead.length).toBeGreaterThan(0);
    for (const sync of ahead) {
      expect(ahead.filter(({ begun }) => sync.begun < begun && begun < sync.ended)).toEqual([]);
    }
    expect(writes.some(({ begun }) => begun > ahead[0]!.begun)).toBe(true);
    await close();
  });

  test("a new folder is durable in the folder above before anything in it is acknowledged", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    const calls = await trace(watched, () => put(blobs, "one/two/blob", bytesOfSize(1)));
    expect(
      outOfOrder(calls, [
        /^mkdir one$/,
        /^sync docyard-blobs-/,
        /^mkdir two$/,
        /^sync one$/,
        /^rename <\w+> blob$/,
        /^sync two$/,
      ]),
    ).toEqual([]);
    await close();
  });

  test("a signed PUT syncs bytes and sidecar before it names them, and leaves the folder to copy", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    await signedPut(blobs, "incoming/first", bytesOfSize(1));
    const small = await trace(watched, () => signedPut(blobs, "incoming/small", bytesOfSize(900)));
    expect(outOfOrder(small, [/^createSyncedFile </, /^writev </, /^rename <\w+> small$/])).toEqual([]);
    expect(small.filter(({ name }) => name === "writev")).toHaveLength(1);
    const calls = await trace(watched, () => signedPut(blobs, "incoming/blob", bytesOfSize(2 * MIB)));
    expect(outOfOrder(calls, [/^datasync </, /^rename <\w+> blob\.crc$/, /^rename <\w+> blob$/])).toEqual([]);
    expect(calls.some(({ name }) => name === "sync")).toBe(false);
    const expected = { size: 2 * MIB, digest: digestOf(bytesOfSize(2 * MIB)) };
    const copying = await trace(watched, () => blobs.copy("incoming/blob", "final/blob", expected));
    expect(
      outOfOrder(copying, [
        /^link blob </,
        /^rename <\w+> blob\.crc$/,
        /^rename <\w+> blob$/,
        /^sync final$/,
      ]),
    ).toEqual([]);
    // No byte of the blob is read or written again: the one file that is written is the sidecar.
    const read = copying.filter(({ name }) => name === "read").map(({ paths }) => paths[0]);
    expect(new Set(read)).toEqual(new Set(["blob.crc"]));
    const written = copying.filter(({ name }) => name === "writev").map(({ paths }) => paths[0]!);
    expect(written).toHaveLength(1);
    expect(find(copying, new RegExp(`^rename ${written[0]} `)).paths[1]).toMatch(/\.crc$/);
    await close();
  });

  test("delete takes the blob's own name last, and syncs the folder", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    await put(blobs, "folder/blob", bytesOfSize(MIB + 1));
    const calls = await trace(watched, () => blobs.delete("folder/blob"));
    expect(outOfOrder(calls, [/^unlink blob\.crc$/, /^unlink blob$/, /^sync folder$/])).toEqual([]);
    await close();
  });

  test("delete of what may return syncs nothing", async () => {
    const watched = watchedIo();
    const { blobs, root, close } = await openDisk({ io: watched.io });
    await put(blobs, "folder/blob", bytesOfSize(MIB + 1));
    const calls = await trace(watched, () => blobs.delete("folder/blob", { mayReturn: true }));
    expect(calls.filter(({ name }) => name.includes("sync"))).toEqual([]);
    expect(await filesBelow(root)).toEqual([]);
    await close();
  });

  test("put of what may vanish syncs the bytes and no folder; a copy of it is as durable as any", async () => {
    const watched = watchedIo();
    const { blobs, root, close } = await openDisk({ io: watched.io });
    const bytes = bytesOfSize(900);
    await put(blobs, "folder/first", bytesOfSize(1));
    const calls = await trace(watched, () =>
      blobs.put("staged/1/blob", chunksOf(bytes), { sizeMax: 900, mayVanish: true }),
    );
    expect(outOfOrder(calls, [/^writev </, /^datasync </, /^rename <\w+> blob$/])).toEqual([]);
    // The folder that all of them share is made to last, the one of this key is not.
    expect(calls.filter(({ name }) => name === "sync").map(({ paths }) => paths[0])).toEqual([
      basename(root),
    ]);
    const again = await trace(watched, () =>
      blobs.put("staged/2/blob", chunksOf(bytes), { sizeMax: 900, mayVanish: true }),
    );
    expect(again.some(({ name }) => name === "sync")).toBe(false);
    const expected = { size: 900, digest: digestOf(bytes) };
    const copying = await trace(watched, () => blobs.copy("staged/1/blob", "folder/blob", expected));
    expect(outOfOrder(copying, [/^link blob blob$/, /^sync folder$/])).toEqual([]);
    await blobs.delete("staged/1/blob", { mayReturn: true });
    await blobs.delete("staged/2/blob", { mayReturn: true });
    expect(await filesBelow(root)).toEqual(["folder/blob", "folder/first"]);
    await close();
  });

  test("a small copy is looked at under its new name before anyone hears of it", async () => {
    const watched = watchedIo();
    const { blobs, root, close } = await openDisk({ io: watched.io });
    const bytes = bytesOfSize(900);
    const expected = { size: 900, digest: digestOf(bytes) };
    await signedPut(blobs, "incoming/blob", bytes);
    const copying = await trace(watched, () => blobs.copy("incoming/blob", "final/new", expected));
    expect(outOfOrder(copying, [/^link blob new$/, /^lstat new$/, /^sync final$/])).toEqual([]);
    // Nothing is read, nothing written, and no other name is taken meanwhile.
    expect(copying.some(({ name }) => /^(?:read|writev|rename|unlink)$/.test(name))).toBe(false);
    // Another process puts other bytes there, of the same size and in the same moment, which this one has not seen.
    const path = join(root, "incoming/blob");
    const { atime, mtime } = await stat(path);
    await writeFile(`${path}.new`, bytesOfSize(900, 2));
    await utimes(`${path}.new`, atime, mtime);
    await rename(`${path}.new`, path);
    expect(await blobs.copy("incoming/blob", "final/other", expected)).toBe(false);
    expect(await blobs.stat("final/other")).toBeNull();
    // Where the name is taken, it is replaced all at once.
    await put(blobs, "final/taken", bytesOfSize(900, 3));
    await signedPut(blobs, "incoming/blob", bytes);
    const replacing = await trace(watched, () => blobs.copy("incoming/blob", "final/taken", expected));
    expect(outOfOrder(replacing, [/^link blob </, /^rename <\w+> taken$/, /^sync final$/])).toEqual([]);
    expect(await contentDigest(blobs, "final/taken")).toBe(expected.digest);
    expect(await filesBelow(root)).toEqual(["final/new", "final/taken", "incoming/blob"]);
    await close();
  });

  test("many puts at once share the syncs of their folder, and none resolves before one that began after its rename", async () => {
    const watched = watchedIo();
    const { blobs, close } = await openDisk({ io: watched.io });
    await put(blobs, "folder/first", bytesOfSize(1));
    const start = watched.calls.length;
    const resolvedAt = new Map<string, number>();
    await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        await put(blobs, `folder/k${i}`, bytesOfSize(100, i));
        resolvedAt.set(`k${i}`, watched.calls.length);
      }),
    );
    const calls = watched.calls.slice(start);
    const syncs = calls.filter(({ name, paths }) => name === "sync" && paths[0] === "folder");
    expect(syncs.length).toBeLessThan(64);
    for (let i = 0; i < 64; i++) {
      const named = find(calls, new RegExp(`^rename <\\w+> k${i}$`));
      const seenBy = watched.calls.slice(0, resolvedAt.get(`k${i}`));
      const covering = syncs.filter((sync) => seenBy.includes(sync) && named.ended < sync.begun);
      expect([i, covering.some(({ ended }) => Number.isFinite(ended))]).toEqual([i, true]);
    }
    await close();
  });
});
