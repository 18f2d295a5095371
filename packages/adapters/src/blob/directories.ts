/**
 * Makes directories durably and syncs them, one fsync serving everyone who waited before it began.
 * What is put into the directories is left to `disk-files.ts`.
 */

import { dirname } from "node:path";
import { setBounded } from "../bounded-map.ts";
import { atLull } from "../lull.ts";
import type { DiskIo } from "./disk-io.ts";
import { isErrno } from "./disk-io.ts";

/** Directories remembered as made and synced; forgetting one costs a mkdir and an fsync. */
const KNOWN_MAX = 10_000;
/** As of the files in it: names tell docks, and the digests of what they hold. */
const FOLDER_MODE = 0o750;
/** How often something is tried whose directory is pruned meanwhile: each time is another delete's. */
const PRUNED_MAX = 8;

export interface Directories {
  /** Makes a directory at or below the root, and every missing one above it; resolves when their names are durable. */
  ensure(directory: string): Promise<void>;
  /**
   * Works in a directory that is ensured first, once more where a delete finds it empty and prunes it meanwhile (the
   * work then fails with ENOENT). `mayVanish`: the directory's own name need not outlast a power cut.
   */
  within(directory: string, work: () => Promise<unknown>, mayVanish?: boolean): Promise<void>;
  /**
   * Removes this directory if it is empty, then the one above it, and so on, but none right below the root. Never
   * rejects.
   */
  prune(directory: string): Promise<void>;
  /** Resolves when every change made to this directory before the call is durable. */
  sync(directory: string): Promise<void>;
}

export function createDirectories(io: DiskIo, root: string): Directories {
  const known = new Map<string, Promise<void>>();
  /** The fsync that has not begun yet, and so serves whoever comes now. */
  const pending = new Map<string, Promise<void>>();
  const running = new Map<string, Promise<void>>();

  const syncNow = async (directory: string): Promise<void> => {
    const handle = await io.openFolder(directory);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  };

  const sync = (directory: string): Promise<void> => {
    const joined = pending.get(directory);
    if (joined !== undefined) return joined;
    const before = running.get(directory);
    // Not at once: others are often about to wait for the same.
    const lull = new Promise<void>((resolve) => atLull(resolve));
    const next: Promise<void> = Promise.allSettled([before, lull]).then(() => {
      pending.delete(directory);
      running.set(directory, next);
      return syncNow(directory).finally(() => {
        if (running.get(directory) === next) running.delete(directory);
      });
    });
    pending.set(directory, next);
    return next;
  };

  /** True if it was not there. */
  const makeUnlessThere = async (directory: string): Promise<boolean> => {
    try {
      await io.mkdir(directory, FOLDER_MODE);
      return true;
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      return false;
    }
  };

  /**
   * What lies above an existing root is the operator's, and perhaps not even ours to read. Level by level, because
   * Node's own recursive mkdir never returns where a parent exists and yet takes no folders, as in /proc.
   */
  const makeRoot = async (directory: string): Promise<void> => {
    let isNew: boolean;
    try {
      isNew = await makeUnlessThere(directory);
    } catch (error) {
      if (!isErrno(error, "ENOENT") || dirname(directory) === directory) throw error;
      await makeRoot(dirname(directory));
      isNew = await makeUnlessThere(directory);
    }
    if (isNew) await sync(dirname(directory));
  };

  const within: Directories["within"] = async (directory, work, mayVanish = false) => {
    for (let round = 1; ; round++) {
      await (mayVanish ? ensureForNow(directory) : ensure(directory));
      try {
        await work();
        return;
      } catch (error) {
        if (!isErrno(error, "ENOENT") || round === PRUNED_MAX) throw error;
        forget(directory);
      }
    }
  };

  const make = (directory: string): Promise<void> => {
    if (directory === root) return makeRoot(directory);
    const above = dirname(directory);
    return within(above, async () => {
      await makeUnlessThere(directory);
      // Also when it was there: whoever made it may have died before its name was durable.
      await sync(above);
    });
  };

  const ensure = (directory: string): Promise<void> => {
    let made = known.get(directory);
    if (made === undefined) {
      made = make(directory);
      setBounded(known, directory, made, KNOWN_MAX);
      made.catch(() => known.delete(directory));
    }
    return made;
  };

  /** The same, but its own name need not outlast a power cut. */
  const ensureForNow = async (directory: string): Promise<void> => {
    if (known.has(directory)) return known.get(directory);
    await within(dirname(directory), () => makeUnlessThere(directory));
  };

  /** Somebody removed it behind our back: the next `ensure` makes it again. */
  const forget = (directory: string): void => {
    for (let path = directory; path.length > root.length; path = dirname(path)) known.delete(path);
    known.delete(root);
  };

  const prune = async (directory: string): Promise<void> => {
    for (let path = directory; dirname(path).length > root.length; path = dirname(path)) {
      try {
        await io.rmdir(path);
      } catch {
        // Not empty, as a rule; and an empty directory that stays does no harm.
        return;
      }
      known.delete(path);
    }
  };

  return { ensure, within, prune, sync };
}
