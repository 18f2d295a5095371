/**
 * Tries a folder for blobs and a SQLite file without touching what is in them: rights, room, and whether the file system
 * does what durability rests on.
 */

import { randomUUID } from "node:crypto";
import { link, open, rm, stat, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Finding } from "@docyard/adapters/probe";
import { failing, ok, warning } from "@docyard/adapters/probe";
import type { SqliteStoreOptions } from "@docyard/adapters/store/sqlite";
import { reasonOf } from "./failure.ts";
import { isErrno } from "./files.ts";
import { printRoughSize, printSize } from "./measure.ts";

/** What every SQLite file begins with. */
const SQLITE_MAGIC = "SQLite format 3\0";
/** Numbers of file systems on other machines, as Linux's statfs has them: NFS, SMB, SMB2, 9P, Ceph. */
const NETWORK_TYPES: ReadonlySet<number> = new Set([0x6969, 0x517b, 0xfe534d42, 0x01021997, 0x00c36400]);
/** Rows are small: a database wants room for a while. */
const DATABASE_ROOM = 256 * 1024 ** 2;

export async function probeFolder(path: string, sizeMax: number): Promise<Finding[]> {
  const folder = resolve(path);
  const found = await stat(folder).catch(() => null);
  if (found !== null && !found.isDirectory()) {
    return [failing("folder", `${folder} is a file`, "name a folder in --blob")];
  }
  const at = found === null ? await existing(folder) : folder;
  const written = await tryToWrite(at);
  if (written.outcome === "failing") return [written];
  return [
    found === null ? ok("folder", `${folder} is not there yet: the first start makes it`) : written,
    await room(at, sizeMax, `the largest artifact (--max-size) is ${printSize(sizeMax)}`),
  ];
}

export async function probeSqlite(options: SqliteStoreOptions): Promise<Finding[]> {
  const file = resolve(options.file);
  const folder = dirname(file);
  const there = await stat(folder).catch(() => null);
  if (there === null || !there.isDirectory()) {
    return [failing("file", `the folder ${folder} does not exist`, "make it, or correct --db")];
  }
  const written = await tryToWrite(folder);
  if (written.outcome === "failing") return [written];
  const found = await magic(file);
  const isThere = found.outcome === "ok" && ((await stat(file).catch(() => null))?.size ?? 0) > 0;
  return [
    found,
    ...(isThere ? (await import("@docyard/adapters/store/sqlite-probe")).probeSqliteFile(options) : []),
    await room(folder, DATABASE_ROOM, "the database grows with each artifact"),
    await locality(folder),
  ];
}

/** The nearest folder above that is there. */
async function existing(folder: string): Promise<string> {
  for (let at = folder; ; at = dirname(at)) {
    if ((await stat(at).catch(() => null)) !== null || at === dirname(at)) return at;
  }
}

/** Writes, syncs, links and removes a small file: all that a stored blob rests on. */
async function tryToWrite(folder: string): Promise<Finding> {
  const file = join(folder, `.docyard-doctor-${randomUUID()}`);
  const linked = `${file}-linked`;
  try {
    const handle = await open(file, "wx", 0o600);
    try {
      await handle.writeFile("docyard");
      await handle.sync();
    } finally {
      await handle.close();
    }
    try {
      await link(file, linked);
    } catch (error) {
      return failing(
        "folder",
        `${folder} takes no hard links: ${reasonOf(error)}`,
        "use a file system that has them, such as ext4, xfs or apfs",
      );
    }
    return ok("folder", `${folder} can be written, synced and linked`);
  } catch (error) {
    return failing("folder", `${folder} cannot be written: ${reasonOf(error)}`, remedyOf(error));
  } finally {
    await rm(file, { force: true }).catch(() => {});
    await rm(linked, { force: true }).catch(() => {});
  }
}

/** What helps where a file cannot be written. */
function remedyOf(error: unknown): string {
  if (isErrno(error, "ENOSPC") || isErrno(error, "EDQUOT")) return "make room";
  if (isErrno(error, "EROFS"))
    return "mount its file system writable; if the system did that by itself, look at the disk";
  if (isErrno(error, "EIO")) return "look at the disk (dmesg, smartctl) before you trust it again";
  return "make its owner the user that runs docyard";
}

async function magic(file: string): Promise<Finding> {
  let handle;
  try {
    handle = await open(file, "r+");
  } catch (error) {
    return isErrno(error, "ENOENT")
      ? ok("file", `${file} is not there yet: the first start makes it`)
      : failing("file", `${file}: ${reasonOf(error)}`, remedyOf(error));
  }
  try {
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(SQLITE_MAGIC.length),
      0,
      SQLITE_MAGIC.length,
      0,
    );
    return bytesRead === 0 || buffer.toString("latin1") === SQLITE_MAGIC
      ? ok("file", `${file} can be read and written`)
      : failing("file", `${file} is no SQLite database`, "name another file in --db");
  } finally {
    await handle.close();
  }
}

async function room(folder: string, wanted: number, why: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const detail = `${printRoughSize(free)} free`;
  return free >= wanted ? ok("room", detail) : warning("room", `${detail}, and ${why}`, "make room");
}

async function locality(folder: string): Promise<Finding> {
  const { type } = await statfs(folder);
  return NETWORK_TYPES.has(type)
    ? failing(
        "file system",
        "the file is on another machine, and SQLite's log needs a local one",
        "put it on a local disk, or use --db postgres://…",
      )
    : ok("file system", "local");
}
