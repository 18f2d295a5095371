/**
 * The file system calls that the disk store makes, as one object, so that a test can make any of them fail.
 * Leaves all policy to its callers.
 */

import type { BigIntStats } from "node:fs";
import {
  close,
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  linkSync,
  lstatSync,
  open,
  openSync,
  read,
  renameSync,
  unlinkSync,
  write,
  writev,
} from "node:fs";
import * as fs from "node:fs/promises";
import { promisify } from "node:util";
import { codeOf } from "../error-code.ts";

export type DiskIo = Pick<typeof fs, "link" | "lstat" | "mkdir" | "readdir" | "rmdir" | "statfs"> & {
  /** @param isSmall whether the caller knows that hardly any bytes are freed: what has that name is replaced */
  rename(from: string, to: string, isSmall?: boolean): Promise<void>;
  /** @param isSmall whether the caller knows that hardly any bytes are freed */
  unlink(path: string, isSmall?: boolean): Promise<void>;
  /** Opens a folder for syncing; the root may be a link of the operator's. */
  openFolder(path: string): Promise<DiskFile>;
  /**
   * Opens a file for reading, never through a symbolic link: nobody who may write into the root can point a key
   * elsewhere.
   */
  openFile(path: string): Promise<DiskFile>;
  /** Makes a file that is not there yet. */
  createFile(path: string, mode: number): Promise<DiskFile>;
  /** The same, but each write is on the disk when it resolves: for what is written at once, one wait instead of two. */
  createSyncedFile(path: string, mode: number): Promise<DiskFile>;
  /**
   * Makes a file of bytes that are here, on the disk and closed when this resolves, and says what it is then. Where it
   * fails, it may leave part of the file.
   */
  createWhole(path: string, mode: number, bytes: Uint8Array): Promise<BigIntStats>;
};

/** As much of a `FileHandle` as blobs take. */
export interface DiskFile {
  read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  writev(chunks: readonly Uint8Array[], position: number): Promise<{ readonly bytesWritten: number }>;
  datasync(): Promise<void>;
  sync(): Promise<void>;
  stat(): Promise<BigIntStats>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** Without O_NONBLOCK whoever opens a FIFO waits for its writer, perhaps for ever. To files it means nothing. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Each write is on the disk when it returns. */
const CREATE_SYNCED_FLAGS = CREATE_FLAGS | constants.O_DSYNC;
/** Bytes of a file that is gone at once when its last name is; the blocks of one GiB take a third of a second. */
const LIGHT_BYTES_MAX = 8 * 1024 * 1024;

const openAsync = promisify(open);
const closeAsync = promisify(close);
const readAsync = promisify(read);
const writevAsync = promisify(writev);
const fdatasyncAsync = promisify(fdatasync);
const fsyncAsync = promisify(fsync);

/**
 * What only touches names is done at once, in this thread: on a local file system it takes some ten microseconds, and
 * handing it to a thread of the pool costs ten times that in processor time alone. What moves, syncs or frees many bytes
 * waits there, and so does making a file or folder: ext4 looks for an inode that was not in use a minute ago, which took
 * 1.3 ms where thousands had been deleted. So does removing a folder, which took 0.8. Plain descriptors for files: a
 * `FileHandle` costs as much as the call itself.
 */
export const nodeDiskIo: DiskIo = {
  ...fs,
  link: async (...args) => linkSync(...args),
  lstat: (async (...args: Parameters<typeof lstatSync>) => lstatSync(...args)) as typeof fs.lstat,
  rename: async (from, to, isSmall = false) =>
    isSmall || !freesMuch(to) ? renameSync(from, to) : fs.rename(from, to),
  unlink: async (path, isSmall = false) => (isSmall || !freesMuch(path) ? unlinkSync(path) : fs.unlink(path)),
  openFolder: async (path) => diskFile(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)),
  openFile: async (path) => diskFile(openSync(path, READ_FLAGS)),
  createFile: async (path, mode) => diskFile(await openAsync(path, CREATE_FLAGS, mode), true),
  createSyncedFile: async (path, mode) => diskFile(await openAsync(path, CREATE_SYNCED_FLAGS, mode), true),
  createWhole,
};

/** By callbacks: with promises for each step a small upload took a twentieth longer. */
function createWhole(path: string, mode: number, bytes: Uint8Array): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    open(path, CREATE_SYNCED_FLAGS, mode, (failure, descriptor) => {
      if (failure !== null) {
        reject(failure);
        return;
      }
      const end = (error: Error | null): void => {
        try {
          let stats: BigIntStats;
          try {
            stats = fstatSync(descriptor, { bigint: true });
          } finally {
            closeSync(descriptor);
          }
          if (error === null) resolve(stats);
          else reject(error);
        } catch (fault) {
          reject(error ?? fault);
        }
      };
      const writeFrom = (start: number): void => {
        write(descriptor, bytes, start, bytes.byteLength - start, start, (error, written) => {
          const next = start + written;
          if (error !== null || next === bytes.byteLength) end(error);
          else if (written === 0) end(new Error(`the disk took ${start} of ${bytes.byteLength} bytes`));
          else writeFrom(next);
        });
      };
      writeFrom(0);
    });
  });
}

/** @param isNew whether this process has made the file, and its name is there until the file is closed */
function diskFile(descriptor: number, isNew = false): DiskFile {
  let underWay = 0;
  let onIdle: (() => void) | null = null;
  const tracked = async <T>(call: Promise<T>): Promise<T> => {
    underWay++;
    try {
      return await call;
    } finally {
      if (--underWay === 0) onIdle?.();
    }
  };
  return {
    read: (buffer, offset, length, position) =>
      tracked(readAsync(descriptor, buffer, offset, length, position)),
    writev: (chunks, position) => tracked(writevAsync(descriptor, chunks, position)),
    datasync: () => tracked(fdatasyncAsync(descriptor)),
    sync: () => tracked(fsyncAsync(descriptor)),
    stat: async () => fstatSync(descriptor, { bigint: true }),
    async close() {
      // The number may be another file's as soon as it is free.
      if (underWay > 0) await new Promise<void>((resolve) => (onIdle = resolve));
      if (!isNew && freesOnClose(descriptor)) await closeAsync(descriptor);
      else closeSync(descriptor);
    },
  };
}

/** Whoever closes a file without a name frees its blocks. */
function freesOnClose(descriptor: number): boolean {
  const { nlink, size } = fstatSync(descriptor);
  return nlink === 0 && size > LIGHT_BYTES_MAX;
}

/** Whether taking this name away frees more than a moment's worth of blocks. */
function freesMuch(path: Parameters<typeof lstatSync>[0]): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats !== undefined && stats.nlink === 1 && stats.size > LIGHT_BYTES_MAX;
}

export function isErrno(error: unknown, ...codes: string[]): boolean {
  return codes.includes(codeOf(error));
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
