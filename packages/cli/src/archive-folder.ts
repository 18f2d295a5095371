/**
 * An archive as a folder: `docyard-archive.json`, records in `records-…/`, blobs in `blobs/ab/<sha256>`. Fit for rsync and
 * sha256sum; a second backup into it adds what is new, and it is a whole archive, the old one or the new, at any moment.
 */

import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, rmdir, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { ArchiveReader, ArchiveWriter, Manifest } from "@docyard/core";
import { isDocyardError, MANIFEST_BYTES_MAX, readManifest, RECORDS_BYTES_MAX } from "@docyard/core";
import {
  blobName,
  damaged,
  FILE_MODE,
  FOLDER_MODE,
  MANIFEST_NAME,
  readPart,
  verified,
  writeBody,
} from "./archive-io.ts";
import { Failure } from "./failure.ts";
import { isErrno, isThere, fileSize, syncFolder } from "./files.ts";

/** What is being written, in a folder of each run's own. */
const TEMP = ".tmp";
/** Milliseconds of a few short waits: whoever still writes into a folder that goes stops at its next file. */
const GIVING_WAY = { maxRetries: 5, retryDelay: 50 } as const;
const RECORDS_FOLDER = /^records-\d+$/;

/** What is to be made. */
export interface ArchivePlan extends Pick<Manifest, "kind" | "dock"> {
  /** Whether blobs of an earlier run are read before they are believed. */
  readonly isChecked: boolean;
}

/**
 * Of several runs in one folder the one that began last goes on: its beginning takes away the folder without which the
 * others can write nothing more, the manifest included. So the records that a run found when it began, and drops when it
 * is done, are of nobody who could still name them.
 * @throws Failure where the folder holds something else, an archive of other things among them
 */
export async function folderWriter(
  path: string,
  { isChecked, ...contents }: ArchivePlan,
): Promise<ArchiveWriter> {
  // `./backup` and `backup/` too are what `dirname` of a file in it says.
  const root = resolve(path);
  await makeRoot(root);
  const found = await readdir(root);
  const strange = found.find((name) => !isOurs(name));
  if (strange !== undefined) {
    throw new Failure(`${root} holds ${strange}, which is no part of an archive: name an empty folder`);
  }
  await requireSame(root, contents);
  await rm(join(root, TEMP), { recursive: true, force: true, ...GIVING_WAY });
  const temp = join(root, TEMP, randomBytes(12).toString("hex"));
  const folders = new Set<string>([root]);
  const ensure = async (folder: string): Promise<void> => {
    if (folders.has(folder)) return;
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    for (let at = folder; at !== root; at = dirname(at)) folders.add(at);
  };
  await mkdir(temp, { recursive: true, mode: FOLDER_MODE });

  /** Whether the folders are there that another run takes away, one after the other. */
  const isUndisturbed = async (): Promise<boolean> => {
    const ofRecords = [...folders].filter((folder) => RECORDS_FOLDER.test(basename(folder)));
    for (const folder of [temp, ...ofRecords]) if (!(await isThere(folder))) return false;
    return true;
  };

  /** Says why something is missing, if that is because another run began. */
  const unlessOvertaken = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      if (!isErrno(error, "ENOENT") || (await isUndisturbed())) throw error;
      throw new Failure(`another run has begun in ${root}, and this one gave way: run one at a time`, {
        cause: error,
      });
    }
  };

  /** Under its name once it is whole, right and synced. */
  const write = async (
    name: string,
    body: AsyncIterable<Uint8Array>,
    isRight: (written: { readonly size: number; readonly digest: string }) => boolean,
  ): Promise<{ readonly size: number; readonly digest: string }> => {
    const path = join(root, name);
    await ensure(dirname(path));
    const temporary = join(temp, randomBytes(12).toString("hex"));
    const handle = await open(temporary, "wx", FILE_MODE);
    try {
      let written;
      try {
        written = await writeBody(handle, 0, body);
        if (isRight(written)) await handle.datasync();
      } finally {
        await handle.close();
      }
      await (isRight(written) ? rename(temporary, path) : unlink(temporary));
      return written;
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
  };

  return {
    async holds(digest, size) {
      const path = join(root, blobName(digest));
      if ((await fileSize(path)) !== size || (isChecked && !(await isWhole(path, size, digest))))
        return false;
      // Whoever wrote it may have been cut off before its name was durable: `finish` sees to it.
      await ensure(dirname(path));
      return true;
    },
    writeBlob: ({ digest, size }, body) =>
      unlessOvertaken(
        write(blobName(digest), body, (written) => written.digest === digest && written.size === size),
      ),
    async writeRecords(name, bytes) {
      await unlessOvertaken(write(name, once(bytes), () => true));
    },
    readRecords: (name) => unlessOvertaken(readFile(join(root, name))),
    async finish(manifest) {
      await unlessOvertaken(
        (async () => {
          for (const folder of folders) await syncFolder(folder);
          await write(MANIFEST_NAME, once(manifest), () => true);
        })(),
      );
      await syncFolder(root);
      await dropRecords(root, found, manifest);
      await rm(temp, { recursive: true, force: true });
      // Not empty while another run is under way.
      await rmdir(join(root, TEMP)).catch(() => {});
    },
  };
}

/**
 * Level by level: Node's recursive `mkdir` says that nothing is there where a file system is read-only, and never returns
 * where a folder takes no others, as in /proc.
 */
async function makeRoot(root: string): Promise<void> {
  try {
    await mkdir(root, { mode: FOLDER_MODE });
  } catch (error) {
    if (isErrno(error, "EEXIST") && (await stat(root)).isDirectory()) return;
    if (!isErrno(error, "ENOENT") || dirname(root) === root) throw error;
    await makeRoot(dirname(root));
    await mkdir(root, { mode: FOLDER_MODE });
  }
  // An archive is no archive where a power cut takes its own name.
  await syncFolder(dirname(root));
}

function isOurs(name: string): boolean {
  return name === MANIFEST_NAME || name === "blobs" || name === TEMP || RECORDS_FOLDER.test(name);
}

/**
 * An archive replaces an earlier one of the same things only: the rows of another kind, or of another dock, would be gone.
 * One that is damaged is nothing to lose.
 */
async function requireSame(root: string, { kind, dock }: Pick<Manifest, "kind" | "dock">): Promise<void> {
  const bytes = await readBounded(join(root, MANIFEST_NAME), MANIFEST_BYTES_MAX);
  if (bytes === null) return;
  let there: Manifest;
  try {
    there = readManifest(bytes);
  } catch (error) {
    if (isDocyardError(error, "data_loss")) return;
    throw error;
  }
  if (there.kind === kind && there.dock === dock) return;
  const what = there.kind === "backup" ? "a backup" : `an export of dock ${there.dock}`;
  throw new Failure(`${root} holds ${what}, which would be lost: name another folder`);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

async function isWhole(path: string, size: number, digest: string): Promise<boolean> {
  const handle = await open(path, "r");
  try {
    for await (const _ of verified(readPart(handle, 0, size), digest));
    return true;
  } catch {
    // Written again, then.
    return false;
  } finally {
    await handle.close();
  }
}

/** Those among the names whose records the manifest does not name: of earlier runs, complete or cut off. */
async function dropRecords(root: string, names: readonly string[], manifest: Uint8Array): Promise<void> {
  const current = new Set(readManifest(manifest).files.map(({ name }) => dirname(name)));
  for (const name of names) {
    if (RECORDS_FOLDER.test(name) && !current.has(name)) {
      await rm(join(root, name), { recursive: true, force: true });
    }
  }
}

/** @throws Failure where there is no archive, or not yet a whole one */
export async function folderReader(root: string): Promise<ArchiveReader> {
  const manifest = await readBounded(join(root, MANIFEST_NAME), MANIFEST_BYTES_MAX);
  if (manifest === null) {
    const names = await readdir(root);
    throw new Failure(
      names.some((name) => name === TEMP || RECORDS_FOLDER.test(name))
        ? `${root} is not complete: what made it was cut off, and can be run again`
        : `${root} is no archive: there is no ${MANIFEST_NAME} in it`,
    );
  }
  return {
    manifest,
    async readRecords(name) {
      const bytes = await readBounded(join(root, name), RECORDS_BYTES_MAX);
      if (bytes === null) throw damaged(`${name} is missing`);
      return bytes;
    },
    async readBlob(digest) {
      const path = join(root, blobName(digest));
      const size = await fileSize(path);
      return size === null ? null : { size, body: verified(readAll(path, size), digest) };
    },
  };
}

/** Opens when reading begins: a body that nobody reads holds no descriptor. */
async function* readAll(path: string, size: number): AsyncGenerator<Uint8Array, void, void> {
  const handle = await open(path, "r");
  try {
    yield* readPart(handle, 0, size);
  } finally {
    await handle.close();
  }
}

async function readBounded(path: string, bytesMax: number): Promise<Uint8Array | null> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw damaged(`${path} is too large`);
    return await readFile(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
}
