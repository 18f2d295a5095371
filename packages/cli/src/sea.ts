/**
 * What the program carries inside when it is one executable: better-sqlite3's compiled addon and the media thread's code.
 * Says nothing of how it got there, which is exe/'s; run from files, everything here answers "find it yourself".
 */

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getAsset, getRawAsset, isSea } from "node:sea";
import { Worker, type WorkerOptions } from "node:worker_threads";
import { Failure, reasonOf } from "./failure.ts";

/** Names of the assets: exe/ puts them in, this file takes them out. */
export const SQLITE_ASSET = "better_sqlite3.node";
export const MEDIA_ASSET = "mediabunny-worker.js";

/** Memory that most Linux systems let programs be loaded from, even where the disk is read-only. */
const SHARED_MEMORY = "/dev/shm";

let addon: object | undefined;

/**
 * better-sqlite3's addon, loaded; undefined outside an executable. A system loads native code from a file only, so it
 * is written to the first folder that allows it (the system's temporary one, `folders`, the working directory) and
 * removed as soon as it is loaded.
 * @throws Failure saying for each folder why not.
 */
export function sqliteAddon(folders: readonly string[]): object | undefined {
  if (addon !== undefined || !isSea()) return addon;
  const bytes = new Uint8Array(getRawAsset(SQLITE_ASSET));
  const failures: string[] = [];
  for (const folder of new Set([tmpdir(), SHARED_MEMORY, ...folders, process.cwd()])) {
    try {
      return (addon = loadFrom(folder, bytes));
    } catch (error) {
      failures.push(`${folder}: ${reasonOf(error)}`);
    }
  }
  throw new Failure(
    `no folder takes the SQLite library; set TMPDIR to one that is writable and not mounted noexec (${failures.join("; ")})`,
  );
}

/** How media threads start; undefined outside an executable, where their driver finds the file beside itself. */
export function mediaWorkerStarter(): ((options: WorkerOptions) => Worker) | undefined {
  if (!isSea()) return undefined;
  return (options) => new Worker(getAsset(MEDIA_ASSET, "utf8"), { ...options, eval: true });
}

function loadFrom(folder: string, bytes: Uint8Array): object {
  const own = mkdtempSync(join(folder, "docyard-"));
  try {
    const file = join(own, SQLITE_ASSET);
    writeFileSync(file, bytes, { mode: 0o600, flag: "wx" });
    chmodSync(file, 0o500);
    const loaded: { exports: object } = { exports: {} };
    process.dlopen(loaded, file);
    return loaded.exports;
  } finally {
    // Linux and macOS keep the mapped file without its name; Windows keeps the name until the process has ended.
    if (process.platform !== "win32") rmSync(own, { recursive: true, force: true });
  }
}
