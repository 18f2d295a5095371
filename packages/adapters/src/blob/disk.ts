/**
 * Blobs as plain files under one directory: `<root>/<key>` is byte for byte what was sent, fit for `sha256sum` and
 * `cp`. Durable before it answers, verified whenever it hands bytes out; whether a key may be used is left to core.
 *
 * Beside each blob of more than one MiB lies `<key>.crc` (see `sidecar.ts`); what is being written lies in
 * `<root>/.tmp`. Losing a sidecar costs one more read of the blob, never the blob.
 */

import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { dirname, join, resolve } from "node:path";
import type { BlobInfo, BlobService, BlobStore, ByteRange } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { checkRange } from "./body.ts";
import { createDirectories } from "./directories.ts";
import type { DiskIo } from "./disk-io.ts";
import { isErrno, nodeDiskIo, READ_FLAGS, unlessMissing } from "./disk-io.ts";
import { listFiles } from "./disk-list.ts";
import { readPieces, readSmall, readSums } from "./disk-read.ts";
import { writeBlobFile, writeSidecarFile } from "./disk-write.ts";
import { checkKey, SIDECAR_SUFFIX } from "./key.ts";
import { createKeyedLock } from "./keyed-lock.ts";
import type { OpenBlob, Piece, ServedBlobs } from "./serve.ts";
import { CorruptBlob, IDLE_TIMEOUT_MS } from "./serve.ts";
import type { Checksums, Fingerprint, Sidecar } from "./sidecar.ts";
import { CHUNK_BYTES, fingerprintOf, parseSidecar, sameFile, sidecarBytesMax } from "./sidecar.ts";
import { createBlobService } from "./service.ts";
import { createUrlSigner } from "./signed-url.ts";

export interface DiskBlobsOptions {
  /** Directory of the blobs; made if missing. */
  readonly root: string;
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /** Signs the URLs; at least 16 bytes, the same in every replica and after a restart. */
  readonly secret: Uint8Array;
  /**
   * What is checked before bytes go out (ruling 7): `full` each MiB and, for whole bodies, the SHA-256; `chunks` each
   * MiB; `off` only the length. Default `full`.
   */
  readonly verifyReads?: "full" | "chunks" | "off";
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Milliseconds without a byte after which a transfer is given up; default 60,000. */
  readonly idleTimeoutMs?: number;
  /** The file system calls; for tests that make them fail. */
  readonly io?: DiskIo;
}

/** A store that always serves its own URLs, on Node's objects too. */
export type DiskBlobs = BlobStore & { readonly serve: Required<BlobService> };

const TEMP_DIRECTORY = ".tmp";
/** Milliseconds after which a temporary file belongs to no living process: a live one writes every few minutes. */
const TEMP_AGE_MAX_MS = 24 * 60 * 60 * 1000;
/** Digests remembered by file, so that `complete` need not read back a small upload that it has just seen. */
const DIGESTS_REMEMBERED_MAX = 4_096;

/** Opens the directory, making it if need be. @throws Error in one line when it cannot be used. */
export async function diskBlobs(options: DiskBlobsOptions): Promise<DiskBlobs> {
  const { verifyReads = "full", now = Date.now, idleTimeoutMs = IDLE_TIMEOUT_MS, io = nodeDiskIo } = options;
  const root = resolve(options.root);
  const signer = createUrlSigner({ baseUrl: options.baseUrl, secret: options.secret, now });
  const directories = createDirectories(io, root);
  const tempDirectory = join(root, TEMP_DIRECTORY);
  const lock = createKeyedLock();
  const digests = createDigestCache();
  const closing = new AbortController();
  // One listener per transfer is no leak.
  setMaxListeners(0, closing.signal);
  const active = new Set<Promise<unknown>>();
  const openBlobs = new Set<OpenBlob>();
  /** Sidecars being rebuilt, so that many readers of one blob share one pass. */
  const healing = new Map<string, Promise<readonly number[]>>();

  /** The one door from keys to paths. */
  const pathFor = (key: string): string => join(root, checkKey(key));
  const tempPath = (): string => join(tempDirectory, `${process.pid}-${randomBytes(12).toString("hex")}`);
  const discard = async (path: string | null): Promise<void> => {
    if (path !== null) await io.unlink(path).catch(() => {});
  };

  /** Refuses after `close`, and lets `close` wait for what is under way. */
  const run = async <T>(work: () => Promise<T>): Promise<T> => {
    if (closing.signal.aborted) throw closed();
    const promise = work();
    active.add(promise);
    try {
      return await promise;
    } finally {
      active.delete(promise);
    }
  };

  /** Writes the body to temporary files, the sidecar among them if it needs one. */
  const stage = async (
    body: AsyncIterable<Uint8Array>,
    limits: { readonly sizeMax: number; readonly signal: AbortSignal; readonly ownsChunks: boolean },
  ): Promise<Staged> => {
    const data = tempPath();
    const sums = await writeBlobFile(io, data, body, limits);
    if (sums.size <= CHUNK_BYTES) return { data, sidecar: null, sums };
    const sidecar = tempPath();
    try {
      await writeSidecarFile(io, sidecar, sums);
    } catch (error) {
      await discard(data);
      throw error;
    }
    return { data, sidecar, sums };
  };

  /**
   * Gives staged files their names, the sidecar first: a crash between the two leaves old bytes beside a sidecar that is
   * not theirs, which its fingerprint shows. Takes the temporary files away whatever happens.
   */
  const publish = async (key: string, { data, sidecar, sums }: Staged): Promise<void> => {
    const path = pathFor(key);
    const name = async (): Promise<void> => {
      await directories.ensure(dirname(path));
      if (sidecar !== null) await io.rename(sidecar, path + SIDECAR_SUFFIX);
      await io.rename(data, path);
    };
    await lock(key, async () => {
      try {
        await name().catch(async (error: unknown) => {
          if (!isErrno(error, "ENOENT")) throw error;
          // Somebody has removed the directory.
          directories.forget(dirname(path));
          await directories.ensure(dirname(path));
          await unlessMissing(
            sidecar === null ? Promise.resolve() : io.rename(sidecar, path + SIDECAR_SUFFIX),
          );
          await io.rename(data, path);
        });
        digests.set(path, sums);
        if (sidecar === null) await unlessMissing(io.unlink(path + SIDECAR_SUFFIX));
      } catch (error) {
        await Promise.all([discard(data), discard(sidecar)]);
        throw error;
      }
    });
  };

  /** The sidecar if it is there and whole; whose it is remains to be seen. */
  const readSidecar = async (path: string, size: number): Promise<Sidecar | null> => {
    const handle = await unlessMissing(io.open(path + SIDECAR_SUFFIX, READ_FLAGS));
    if (handle === null) return null;
    try {
      const stats = await handle.stat();
      if (!stats.isFile() || stats.size > sidecarBytesMax(size)) return null;
      const sidecar = parseSidecar(await handle.readFile("utf8"));
      return sidecar?.size === size ? sidecar : null;
    } finally {
      await handle.close();
    }
  };

  /** Opens a blob's file with its facts; null where there is none. */
  const openFile = async (path: string) => {
    const handle = await unlessMissing(io.open(path, READ_FLAGS));
    if (handle === null) return null;
    try {
      const stats = await handle.stat({ bigint: true });
      if (stats.isFile()) return { handle, size: Number(stats.size), file: fingerprintOf(stats) };
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return null;
  };

  const withFile = async <T>(
    path: string,
    use: (file: NonNullable<Awaited<ReturnType<typeof openFile>>>) => Promise<T>,
  ): Promise<T | null> => {
    const file = await openFile(path);
    if (file === null) return null;
    try {
      return await use(file);
    } finally {
      await file.handle.close();
    }
  };

  const stat = async (key: string): Promise<BlobInfo | null> => {
    const path = pathFor(key);
    const stats = await unlessMissing(io.lstat(path, { bigint: true }));
    if (stats === null || !stats.isFile()) return null;
    const size = Number(stats.size);
    const file = fingerprintOf(stats);
    const known = digests.get(path, size, file);
    if (known !== null) return { size, digest: known };
    if (size > CHUNK_BYTES) {
      const sidecar = await readSidecar(path, size);
      return { size, digest: sidecar !== null && sameFile(sidecar.file, file) ? sidecar.digest : null };
    }
    return withFile(path, async ({ handle, file }) => {
      const sums = await readSums(handle);
      digests.set(path, { ...sums, file });
      return { size: sums.size, digest: sums.digest };
    });
  };

  const digest = async (key: string, signal?: AbortSignal) => {
    const sums = await withFile(pathFor(key), ({ handle }) => readSums(handle, signal));
    return sums === null ? null : { size: sums.size, digest: sums.digest };
  };

  /** Pins what `from` is now under a temporary name, so that nothing sent to it later matters. Null when it is gone. */
  const pin = async (from: string): Promise<Staged | null> => {
    const path = pathFor(from);
    const data = tempPath();
    try {
      if ((await unlessMissing(io.link(path, data).then(() => true))) === null) return null;
    } catch (error) {
      if (!isErrno(error, "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV")) throw error;
      // A file system without hard links: the bytes are copied, and seen while they are.
      return withFile(path, (file) =>
        stage(
          bytesOf(readPieces({ ...file, range: { start: 0, end: file.size }, crcs: null, digest: null })),
          {
            sizeMax: file.size,
            signal: closing.signal,
            ownsChunks: false,
          },
        ),
      );
    }
    let sidecar: string | null = null;
    try {
      const pinned = await withFile(data, async ({ handle, size, file }) => {
        if (size <= CHUNK_BYTES) {
          const known = digests.get(path, size, file);
          const sums = known === null ? await readSums(handle) : { size, digest: known, crcs: [] };
          return { sums: { ...sums, file }, sidecar: null };
        }
        const stored = await readSidecar(path, size);
        const sums =
          stored !== null && sameFile(stored.file, file) ? stored : { ...(await readSums(handle)), file };
        sidecar = tempPath();
        await writeSidecarFile(io, sidecar, sums);
        return { sums, sidecar };
      });
      if (pinned === null) throw new Error("a temporary file vanished");
      return { data, ...pinned };
    } catch (error) {
      await Promise.all([discard(data), discard(sidecar)]);
      throw error;
    }
  };

  const copy = async (
    from: string,
    to: string,
    expected: { readonly size: number; readonly digest: string },
  ): Promise<boolean> => {
    const target = pathFor(to);
    const matches = (info: BlobInfo | null): boolean =>
      info !== null && info.size === expected.size && info.digest === expected.digest;
    const pinned = await pin(from);
    if (pinned === null) {
      // A copy that was cut off after its rename may have left this; then its name still has to be made durable.
      if (!matches(await stat(to))) return false;
      await directories.sync(dirname(target));
      return true;
    }
    if (!matches(pinned.sums)) {
      await Promise.all([discard(pinned.data), discard(pinned.sidecar)]);
      return false;
    }
    await publish(to, pinned);
    // Renaming a file onto another name of itself does nothing, and leaves both.
    await discard(pinned.data);
    await directories.sync(dirname(target));
    return true;
  };

  const remove = async (key: string): Promise<void> => {
    const path = pathFor(key);
    await lock(key, async () => {
      digests.delete(path);
      // The blob last: as long as `list` shows it, somebody will come and finish this.
      const gone = [
        await unlessMissing(io.unlink(path + SIDECAR_SUFFIX).then(() => true)),
        await unlessMissing(io.unlink(path).then(() => true)),
      ];
      if (gone.includes(true)) await directories.sync(dirname(path));
    });
  };

  const get = async (
    key: string,
    { range, signal }: { readonly range?: ByteRange; readonly signal?: AbortSignal } = {},
  ) => {
    signal?.throwIfAborted();
    const path = pathFor(key);
    const found = await unlessMissing(io.lstat(path, { bigint: true }));
    if (found === null || !found.isFile()) throw new DocyardError("not_found", "No such blob");
    const size = Number(found.size);
    const { start, end } = checkRange(range, size);
    // Opened when reading begins: a body that nobody reads holds no descriptor.
    const body = async function* (): AsyncGenerator<Uint8Array, void, void> {
      const file = await openFile(path);
      if (file === null) throw new DocyardError("not_found", "No such blob");
      try {
        if (!sameFile(file.file, fingerprintOf(found)))
          throw new Error("the blob was replaced before it was read");
        const sidecar = verifyReads === "off" || size <= CHUNK_BYTES ? null : await readSidecar(path, size);
        const crcs = sidecar !== null && sameFile(sidecar.file, file.file) ? sidecar.crcs : null;
        const stop = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);
        yield* bytesOf(
          readPieces({ handle: file.handle, size, range: { start, end }, crcs, digest: null, signal: stop }),
        );
      } catch (error) {
        if (!(error instanceof CorruptBlob)) throw error;
        throw new DocyardError("data_loss", "The stored bytes are damaged", { cause: error });
      } finally {
        await file.handle.close();
      }
    };
    return { size, body: { [Symbol.asyncIterator]: body } };
  };

  /** The checksums of each MiB for these announced bytes: from the sidecar, or made anew by reading everything once. */
  const chunkSums = async (
    path: string,
    file: NonNullable<Awaited<ReturnType<typeof openFile>>>,
    announced: { readonly size: number; readonly digest: string },
  ): Promise<readonly number[]> => {
    const sidecar = await readSidecar(path, file.size);
    if (sidecar !== null && sidecar.digest === announced.digest) return sidecar.crcs;
    const id = `${path} ${file.file.inode} ${file.file.modified} ${announced.digest}`;
    let heal = healing.get(id);
    if (heal === undefined) {
      heal = rebuild(path, file, announced.digest).finally(() => healing.delete(id));
      healing.set(id, heal);
      heal.catch(() => {}); // reported to each who shares it
    }
    return heal;
  };

  const rebuild = async (
    path: string,
    { handle, file }: NonNullable<Awaited<ReturnType<typeof openFile>>>,
    announced: string,
  ): Promise<readonly number[]> => {
    const sums: Checksums = await readSums(handle, closing.signal);
    if (sums.digest !== announced) throw new CorruptBlob("SHA-256 does not match");
    const sidecar = tempPath();
    try {
      await writeSidecarFile(io, sidecar, { ...sums, file });
      await io.rename(sidecar, path + SIDECAR_SUFFIX);
    } catch {
      // A full or read-only disk: the bytes are good all the same, and the next reader tries again.
      await discard(sidecar);
    }
    return sums.crcs;
  };

  const openBlob = async (
    key: string,
    announced: { readonly size: number; readonly digest: string },
  ): Promise<OpenBlob | null> => {
    const path = pathFor(key);
    const file = await openFile(path);
    if (file === null) return null;
    const { handle, size } = file;
    if (size !== announced.size) {
      await handle.close();
      throw new CorruptBlob(`the file has ${size} bytes instead of ${announced.size}`);
    }
    const blob: OpenBlob = {
      async *pieces(range, signal) {
        if (size <= CHUNK_BYTES) {
          const bytes = await readSmall(handle, size, verifyReads === "off" ? null : announced.digest);
          // All that will be needed is in memory.
          await blob.close();
          if (range.end > range.start) {
            yield { bytes: bytes.subarray(range.start, range.end), release: () => {} };
          }
          return;
        }
        yield* readPieces({
          handle,
          size,
          range,
          crcs: verifyReads === "off" ? null : await chunkSums(path, file, announced),
          digest: verifyReads === "full" ? announced.digest : null,
          signal,
        });
      },
      async close() {
        if (openBlobs.delete(blob)) await handle.close();
      },
    };
    openBlobs.add(blob);
    return blob;
  };

  const served: ServedBlobs = {
    receive: (key, body, { sizeMax, signal, publish: admit }) =>
      run(async () => {
        pathFor(key);
        const staged = await stage(body, { sizeMax, signal, ownsChunks: true });
        try {
          await admit(staged.sums);
        } catch (error) {
          await Promise.all([discard(staged.data), discard(staged.sidecar)]);
          throw error;
        }
        await publish(key, staged);
        return { size: staged.sums.size, digest: staged.sums.digest };
      }),
    open: (key, announced) => run(() => openBlob(key, announced)),
  };

  /** Proves that files can be made, written and removed here. */
  const probe = async (): Promise<void> => {
    const path = tempPath();
    const handle = await io.open(path, "wx+");
    try {
      await handle.write("docyard");
    } finally {
      await handle.close();
      await io.unlink(path);
    }
  };

  const removeStaleTemps = async (): Promise<void> => {
    for (const name of await io.readdir(tempDirectory)) {
      const path = join(tempDirectory, name);
      const stats = await unlessMissing(io.lstat(path));
      // The change time: linking an old upload here makes it recent.
      if (stats !== null && now() - stats.ctimeMs > TEMP_AGE_MAX_MS) await discard(path);
    }
  };

  try {
    await directories.ensure(tempDirectory);
    await probe();
    await removeStaleTemps();
  } catch (error) {
    throw new Error(`cannot use ${root} for blobs: ${(error as Error).message}`, { cause: error });
  }

  return {
    put: (key, body, { sizeMax, signal }) =>
      run(async () => {
        const path = pathFor(key);
        const stop = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);
        const staged = await stage(body, { sizeMax, signal: stop, ownsChunks: false });
        await publish(key, staged);
        await directories.sync(dirname(path));
        return { size: staged.sums.size, digest: staged.sums.digest };
      }),
    get: (key, options) => run(() => get(key, options)),
    stat: (key) => run(() => stat(key)),
    digest: (key, { signal } = {}) => run(() => digest(key, signal)),
    copy: (from, to, expected) => run(() => copy(from, to, expected)),
    delete: (key) => run(() => remove(key)),
    list: (prefix, page) => run(() => listFiles(io, root, prefix, page)),
    signPut: (key, sign) => run(async () => signer.signPut(key, sign)),
    signGet: (key, sign) => run(async () => signer.signGet(key, sign)),
    serve: createBlobService({ signer, blobs: served, idleTimeoutMs, closing: closing.signal }),
    ready: () => run(probe),
    async close() {
      closing.abort(closed());
      await Promise.allSettled([...active, ...Array.from(openBlobs, (blob) => blob.close())]);
    },
  };
}

interface Staged {
  /** Path of the bytes under their temporary name. */
  readonly data: string;
  /** Path of the sidecar under its temporary name; null for a blob that needs none. */
  readonly sidecar: string | null;
  readonly sums: Sidecar;
}

async function* bytesOf(pieces: AsyncIterable<Piece>): AsyncGenerator<Uint8Array, void, void> {
  for await (const { bytes, release } of pieces) {
    yield bytes;
    release();
  }
}

/** Digests of files this process has seen whole, as long as the file is the same. */
function createDigestCache() {
  const known = new Map<string, { size: number; digest: string; file: Fingerprint }>();
  return {
    get(path: string, size: number, file: Fingerprint): string | null {
      const entry = known.get(path);
      return entry !== undefined && entry.size === size && sameFile(entry.file, file) ? entry.digest : null;
    },
    set(path: string, { size, digest, file }: Sidecar): void {
      known.delete(path);
      known.set(path, { size, digest, file });
      if (known.size > DIGESTS_REMEMBERED_MAX) known.delete(known.keys().next().value!);
    },
    delete: (path: string): void => void known.delete(path),
  };
}

function closed(): Error {
  return new Error("the blob store is closed");
}
