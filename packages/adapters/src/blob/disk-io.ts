/**
 * The file system calls that the disk store makes, as one object, so that a test can make any of them fail.
 * Leaves all policy to its callers.
 */

import * as fs from "node:fs/promises";
import { constants } from "node:fs";

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

export const nodeDiskIo: DiskIo = fs;

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
