/**
 * The files behind the disk store: how a blob gets its name, durably and all at once, and what a file can attest.
 * Knows paths and checksums; URLs, requests and the port's words are left to `disk.ts` and `disk-serve.ts`.
 */

import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import type { BlobInfo } from "@docyard/core";
import { setBounded } from "../bounded-map.ts";
import type { Directories } from "./directories.ts";
import { createDirectories } from "./directories.ts";
import type { DiskFile, DiskIo } from "./disk-io.ts";
import { isErrno, unlessMissing } from "./disk-io.ts";
import { readPieces, readSums } from "./disk-read.ts";
import type { WriteOptions } from "./disk-write.ts";
import { writeBlobFile, writeSidecarFile } from "./disk-write.ts";
import { checkKey, SIDECAR_SUFFIX } from "./key.ts";
import { createKeyedLock } from "./keyed-lock.ts";
import { bytesOf } from "./serve.ts";
import type { Fingerprint, Sidecar } from "./sidecar.ts";
import { CHUNK_BYTES, fingerprintOf, parseSidecar, sameFile, sidecarBytesMax } from "./sidecar.ts";

const TEMP_DIRECTORY = ".tmp";
const PROBE_MODE = 0o600;
/** Milliseconds after which a temporary file belongs to no living process: a live one writes every few minutes. */
const TEMP_AGE_MAX_MS = 24 * 60 * 60 * 1000;
/** Digests remembered by file, so that `complete` need not read back a small upload that has just been seen. */
const DIGESTS_REMEMBERED_MAX = 4_096;

/** What a file system says that makes no second name, or no more of this file. */
const WITHOUT_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV"] as const;

/** A blob's file, open for reading, as it was when it was opened. */
export interface OpenFile {
  readonly handle: DiskFile;
  readonly size: number;
  readonly file: Fingerprint;
}

/** Bytes that are written and synced but have no name yet. */
export interface Staged {
  /** Path of the bytes under their temporary name. */
  readonly data: string;
  /** Path of the sidecar under its temporary name; null for a blob that needs none. */
  readonly sidecar: string | null;
  readonly sums: Sidecar;
}

export interface BlobFiles {
  /** The one door from keys to paths. @throws TypeError for what is no key */
  pathFor(key: string): string;
  /** Makes the directories and removes what dead processes left; rejects when files cannot be made here, but for want of room. */
  prepare(now: number): Promise<void>;
  /** Proves that files can be made, written and removed here. */
  probe(): Promise<void>;
  /** Removes others' temporary files that nobody has touched since (milliseconds since 1970 UTC), and says how many. */
  dropUnfinished(before: number): Promise<number>;
  /** Writes and syncs the body under temporary names. @throws DocyardError `too_large` */
  stage(
    body: AsyncIterable<Uint8Array>,
    options: WriteOptions & { readonly signal: AbortSignal },
  ): Promise<Staged>;
  /** Stages what a key holds now without touching its bytes, so that nothing sent to it later matters; null if gone. */
  pin(key: string, signal: AbortSignal): Promise<Staged | null>;
  /**
   * Gives staged bytes their name, or takes them away if that fails. The name is durable after `sync`, unless the key
   * `mayVanish`: then not even its folder is made to last. What was pinned is to be discarded afterwards: renaming a
   * file onto another name of itself does nothing, and leaves both.
   */
  publish(key: string, staged: Staged, mayVanish?: boolean): Promise<void>;
  discard(staged: Staged): Promise<void>;
  /**
   * Gives small bytes that this process has seen whole, and that are what is expected, a second name at once. False
   * where it has not, where they are not, or where the name is taken: `pin` and `publish` are for everything.
   */
  adopt(
    from: string,
    to: string,
    expected: { readonly size: number; readonly digest: string },
  ): Promise<boolean>;
  /** Resolves when the names made and removed beside this key are durable. */
  sync(key: string): Promise<void>;
  /** Takes a blob and its sidecar away; without a sync they may be back after a power cut. */
  remove(key: string, isUnsynced: boolean): Promise<void>;
  stat(key: string): Promise<(BlobInfo & { readonly file: Fingerprint }) | null>;
  /** The file of a key; null where there is none. The caller closes it. */
  open(key: string): Promise<OpenFile | null>;
  /** The sidecar beside a blob of this size if it is there and whole; whose it is remains to be seen. */
  readSidecar(key: string, size: number): Promise<Sidecar | null>;
  /** Bytes free for files of this process's user. */
  free(): Promise<number>;
  /** Puts a sidecar beside a blob that has lost its own. */
  writeSidecar(key: string, sidecar: Sidecar): Promise<void>;
}

export function createBlobFiles(io: DiskIo, root: string): BlobFiles {
  const directories: Directories = createDirectories(io, root);
  const tempDirectory = join(root, TEMP_DIRECTORY);
  const lock = createKeyedLock();
  const digests = createDigestCache();

  // A key that passes has nothing for `join` to do, which was a hundredth of a small upload.
  const folder = join(root, "/");
  const pathFor = (key: string): string => folder + checkKey(key);
  // Unlike any other process's, on any machine that shares the folder.
  const tempPrefix = join(tempDirectory, `${process.pid}-${randomBytes(12).toString("hex")}-`);
  let temps = 0;
  const tempPath = (): string => `${tempPrefix}${++temps}`;
  const drop = async (path: string | null): Promise<void> => {
    if (path !== null) await io.unlink(path).catch(() => {});
  };
  const discard = async ({ data, sidecar }: Pick<Staged, "data" | "sidecar">): Promise<void> => {
    await Promise.all([drop(data), drop(sidecar)]);
  };

  const stage: BlobFiles["stage"] = async (body, options) => {
    const data = tempPath();
    const sums = await writeBlobFile(io, data, body, options);
    return withSidecar(data, sums);
  };

  /** Adds the sidecar that a large blob needs. */
  const withSidecar = async (data: string, sums: Sidecar): Promise<Staged> => {
    if (sums.size <= CHUNK_BYTES) return { data, sidecar: null, sums };
    const sidecar = tempPath();
    try {
      await writeSidecarFile(io, sidecar, sums);
    } catch (error) {
      await drop(data);
      throw error;
    }
    return { data, sidecar, sums };
  };

  /**
   * The sidecar goes first: a crash between the two leaves old bytes beside a sidecar that is not theirs, which its
   * fingerprint shows; the other way round, new bytes would vouch for themselves with nothing.
   */
  const name = async (path: string, { data, sidecar }: Staged): Promise<void> => {
    if (sidecar === null) {
      // What lay here before may have been larger, as far as this process knows: asking the file system would take half
      // as long as the renaming. A sidecar that stays says whose it is, is listed should it ever be alone, and goes with
      // the key. Should only the unlink succeed, the old blob gets a new one when it is read.
      const hadSidecar = (digests.sizeOf(path) ?? 0) > CHUNK_BYTES;
      const naming = io.rename(data, path, !hadSidecar);
      await (hadSidecar ? both(naming, unlessMissing(io.unlink(path + SIDECAR_SUFFIX))) : naming);
      return;
    }
    await io.rename(sidecar, path + SIDECAR_SUFFIX);
    try {
      await io.rename(data, path);
    } catch (error) {
      // Old bytes whose own sidecar is gone are read once and get a new one; a stray one would help nobody.
      await drop(path + SIDECAR_SUFFIX);
      throw error;
    }
  };

  const publish: BlobFiles["publish"] = async (key, staged, mayVanish = false) => {
    const path = pathFor(key);
    await lock(key, async () => {
      try {
        await directories.within(dirname(path), () => name(path, staged), mayVanish);
      } catch (error) {
        await discard(staged);
        throw error;
      }
      digests.set(path, staged.sums);
    });
  };

  const openPath = async (path: string): Promise<OpenFile | null> => {
    const handle = await unlessMissing(io.openFile(path));
    if (handle === null) return null;
    let isFile = false;
    try {
      const stats = await handle.stat();
      isFile = stats.isFile();
      if (isFile) return { handle, size: Number(stats.size), file: fingerprintOf(stats) };
    } finally {
      if (!isFile) await handle.close();
    }
    return null;
  };

  const readSidecar: BlobFiles["readSidecar"] = async (key, size) => {
    const handle = await unlessMissing(io.openFile(pathFor(key) + SIDECAR_SUFFIX));
    if (handle === null) return null;
    try {
      const stats = await handle.stat();
      if (!stats.isFile() || stats.size > sidecarBytesMax(size)) return null;
      const text = Buffer.alloc(Number(stats.size));
      const { bytesRead } = await handle.read(text, 0, text.byteLength, 0);
      const sidecar = parseSidecar(text.toString("utf8", 0, bytesRead));
      return sidecar?.size === size ? sidecar : null;
    } finally {
      await handle.close();
    }
  };

  /** What is known of a pinned file: remembered, attested by its sidecar, or read. */
  const sumsOf = async (key: string, data: string): Promise<Sidecar> => {
    const stats = await io.lstat(data, { bigint: true });
    const file = fingerprintOf(stats);
    const size = Number(stats.size);
    if (size <= CHUNK_BYTES) {
      const digest = digests.get(pathFor(key), size, file);
      if (digest !== null) return { size, digest, crcs: [], file };
    } else {
      const sidecar = await readSidecar(key, size);
      if (sidecar !== null && sameFile(sidecar.file, file)) return sidecar;
    }
    const opened = await openPath(data);
    if (opened === null) throw new Error("a temporary file has vanished");
    try {
      return { ...(await readSums(opened)), file };
    } finally {
      await opened.handle.close();
    }
  };

  const adopt: BlobFiles["adopt"] = async (from, to, expected) => {
    const [source, path] = [pathFor(from), pathFor(to)];
    if (expected.size > CHUNK_BYTES || digests.sizeOf(source) !== expected.size) return false;
    return lock(to, async () => {
      await directories.ensure(dirname(path));
      try {
        await io.link(source, path);
      } catch (error) {
        if (isErrno(error, "EEXIST", "ENOENT", ...WITHOUT_LINKS)) return false;
        throw error;
      }
      // Looked at under its new name: what lies under the old one may be replaced at any time.
      let isRight = false;
      try {
        const stats = await io.lstat(path, { bigint: true });
        const file = fingerprintOf(stats);
        const digest = digests.get(source, Number(stats.size), file);
        isRight = digest === expected.digest;
        if (isRight) digests.set(path, { ...expected, crcs: [], file });
      } finally {
        if (!isRight) await io.unlink(path);
      }
      return isRight;
    });
  };

  const pin: BlobFiles["pin"] = async (key, signal) => {
    const data = tempPath();
    try {
      if ((await unlessMissing(io.link(pathFor(key), data).then(() => true))) === null) return null;
    } catch (error) {
      if (!isErrno(error, ...WITHOUT_LINKS)) throw error;
      return pinByCopy(key, signal);
    }
    let sums: Sidecar;
    try {
      sums = await sumsOf(key, data);
    } catch (error) {
      await drop(data);
      throw error;
    }
    return withSidecar(data, sums);
  };

  /** On a file system without hard links the bytes are copied, and hashed while they are. */
  const pinByCopy: BlobFiles["pin"] = async (key, signal) => {
    const opened = await openPath(pathFor(key));
    if (opened === null) return null;
    const range = { start: 0, end: opened.size };
    try {
      return await stage(bytesOf(readPieces({ ...opened, range, crcs: null, digest: null, signal })), {
        sizeMax: opened.size,
        signal,
        memory: "lent",
      });
    } finally {
      await opened.handle.close();
    }
  };

  const stat: BlobFiles["stat"] = async (key) => {
    const path = pathFor(key);
    const stats = await unlessMissing(io.lstat(path, { bigint: true }));
    if (stats === null || !stats.isFile()) return null;
    const size = Number(stats.size);
    const file = fingerprintOf(stats);
    const known = digests.get(path, size, file);
    if (known !== null) return { size, digest: known, file };
    if (size > CHUNK_BYTES) {
      const sidecar = await readSidecar(key, size);
      return { size, digest: sidecar !== null && sameFile(sidecar.file, file) ? sidecar.digest : null, file };
    }
    const opened = await openPath(path);
    if (opened === null) return null;
    try {
      const sums = { ...(await readSums(opened)), file: opened.file };
      digests.set(path, sums);
      return { size: sums.size, digest: sums.digest, file: opened.file };
    } finally {
      await opened.handle.close();
    }
  };

  const probe = async (): Promise<void> => {
    const path = tempPath();
    const file = await io.createFile(path, PROBE_MODE);
    try {
      await file.writev([Buffer.from("docyard")], 0);
    } finally {
      await file.close();
      await io.unlink(path);
    }
  };

  const dropUnfinished: BlobFiles["dropUnfinished"] = async (before) => {
    let dropped = 0;
    for (const entry of (await unlessMissing(io.readdir(tempDirectory))) ?? []) {
      const path = join(tempDirectory, entry);
      // Our own are taken away by whoever made them, whatever the clock says by now.
      if (path.startsWith(tempPrefix)) continue;
      const stats = await unlessMissing(io.lstat(path));
      // The change time: linking an old upload here makes it recent.
      if (stats === null || !stats.isFile() || stats.ctimeMs >= before) continue;
      await drop(path);
      dropped++;
    }
    return dropped;
  };

  return {
    pathFor,
    probe,
    dropUnfinished,
    stage,
    adopt,
    pin,
    publish,
    discard,
    stat,
    readSidecar,

    async prepare(now) {
      await directories.ensure(tempDirectory);
      await probe().catch((error: unknown) => {
        // On a full disk reading goes on, and what makes room has to begin.
        if (!isErrno(error, "ENOSPC", "EDQUOT")) throw error;
      });
      await dropUnfinished(now - TEMP_AGE_MAX_MS);
    },

    sync: (key) => directories.sync(dirname(pathFor(key))),

    async remove(key, isUnsynced) {
      const path = pathFor(key);
      await lock(key, async () => {
        const isSmall = (digests.sizeOf(path) ?? Number.POSITIVE_INFINITY) <= CHUNK_BYTES;
        digests.delete(path);
        // The blob last: as long as `list` shows it, somebody will come and finish this.
        const gone = [
          isSmall ? null : await unlessMissing(io.unlink(path + SIDECAR_SUFFIX).then(() => true)),
          await unlessMissing(io.unlink(path, isSmall).then(() => true)),
        ];
        if (!gone.includes(true)) return;
        // Another delete may have found the directory empty and removed it.
        if (!isUnsynced) await unlessMissing(directories.sync(dirname(path)));
        await directories.prune(dirname(path));
      });
    },

    open: async (key) => openPath(pathFor(key)),

    async free() {
      const { bavail, bsize } = await io.statfs(root);
      return bavail * bsize;
    },

    async writeSidecar(key, sidecar) {
      const temp = tempPath();
      await writeSidecarFile(io, temp, sidecar);
      await lock(key, async () => {
        await io.rename(temp, pathFor(key) + SIDECAR_SUFFIX).catch(async (error: unknown) => {
          await drop(temp);
          throw error;
        });
      });
    },
  };
}

/**
 * Waits for both, however they end: what they work on must not be touched before. Rejects as the first does, or else
 * the second.
 */
async function both(first: Promise<unknown>, second: Promise<unknown>): Promise<void> {
  const outcomes = await Promise.allSettled([first, second]);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** Digests of files this process has seen whole, as long as the file is the same. */
function createDigestCache() {
  const known = new Map<string, { size: number; digest: string; file: Fingerprint }>();
  return {
    get(path: string, size: number, file: Fingerprint): string | null {
      const entry = known.get(path);
      return entry !== undefined && entry.size === size && sameFile(entry.file, file) ? entry.digest : null;
    },
    /** Bytes of the blob that this process last put or saw there; undefined where it has not, or has forgotten. */
    sizeOf: (path: string): number | undefined => known.get(path)?.size,
    set(path: string, { size, digest, file }: Sidecar): void {
      setBounded(known, path, { size, digest, file }, DIGESTS_REMEMBERED_MAX);
    },
    delete: (path: string): void => void known.delete(path),
  };
}
