/**
 * The file system calls that the disk store makes, as one object, so that a test can make any of them fail.
 * Leaves all policy to its callers.
 */

import * as fs from "node:fs/promises";
import { constants, linkSync, lstatSync, renameSync, rmdirSync, unlinkSync } from "node:fs";

export type DiskIo = Pick<
  typeof fs,
  | "copyFile"
  | "link"
  | "lstat"
  | "mkdir"
  | "open"
  | "readdir"
  | "readFile"
  | "rename"
  | "rmdir"
  | "statfs"
  | "unlink"
>;

/**
 * What only touches names is done at once, in this thread: on a local file system it takes some ten microseconds, and
 * handing it to a thread of the pool costs ten times that in processor time alone. What moves or syncs bytes waits there.
 */
export const nodeDiskIo: DiskIo = {
  ...fs,
  link: async (...args) => linkSync(...args),
  lstat: (async (...args: Parameters<typeof lstatSync>) => lstatSync(...args)) as typeof fs.lstat,
  rename: async (...args) => renameSync(...args),
  rmdir: async (path) => rmdirSync(path),
  unlink: async (...args) => unlinkSync(...args),
};

/** Never through a symbolic link: nobody who may write into the root can point a key elsewhere. */
export const READ_FLAGS: number = constants.O_RDONLY | constants.O_NOFOLLOW;
/** A file that nobody has opened before. */
export const CREATE_FLAGS: number =
  constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes(String((error as NodeJS.ErrnoException).code));
}

/** Null where there is no such file; any other failure rejects. */
export async function unlessMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}
