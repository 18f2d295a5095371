/**
 * Blobs as plain files under one directory: `<root>/<key>` is byte for byte what was sent, fit for `sha256sum` and
 * `cp`. Durable before it answers, verified whenever it hands bytes out; what a key means is left to core.
 *
 * Beside each blob of more than one MiB lies `<key>.crc` (see `sidecar.ts`); what is being written lies in
 * `<root>/.tmp`. Losing a sidecar costs one more read of the blob, never the blob. A folder goes with
 * the last blob in it, unless it lies right below the root.
 */

import { setMaxListeners } from "node:events";
import { resolve } from "node:path";
import type { BlobService, BlobStore, ByteRange } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { checkRange } from "./body.ts";
import { createBlobFiles } from "./disk-files.ts";
import type { DiskIo } from "./disk-io.ts";
import { isErrno, nodeDiskIo } from "./disk-io.ts";
import { listFiles } from "./disk-list.ts";
import { readPieces, readSums } from "./disk-read.ts";
import type { VerifyReads } from "./disk-serve.ts";
import { createDiskServed } from "./disk-serve.ts";
import { bytesOf, CorruptBlob, IDLE_TIMEOUT_MS } from "./serve.ts";
import { createBlobService } from "./service.ts";
import { CHUNK_BYTES, sameFile } from "./sidecar.ts";
import type { UrlSecret } from "./urls.ts";
import { createUrls } from "./urls.ts";

export interface DiskBlobsOptions {
  /** Directory of the blobs; made if missing. */
  readonly root: string;
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /**
   * Signs the URLs; at least 16 bytes, the same in every replica and after a restart. Or a function that reads all keys
   * in force, newest first, where they are rotated.
   */
  readonly secret: UrlSecret;
  /**
   * What is checked before bytes go out (ruling 7): `full` each MiB and, for whole bodies, the SHA-256; `chunks` each
   * MiB; `off` only the length. Default `full`.
   */
  readonly verifyReads?: VerifyReads;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Milliseconds without a byte after which a transfer is given up; default 60,000. */
  readonly idleTimeoutMs?: number;
  /** The file system calls; for tests that make them fail. Default: Node's. */
  readonly io?: DiskIo;
}

/** A store that always serves its own URLs, on Node's objects too, knows its room, and cleans up after crashes. */
export type DiskBlobs = BlobStore &
  Required<Pick<BlobStore, "dropUnfinished" | "space">> & { readonly serve: Required<BlobService> };

/** Milliseconds for which a number of free bytes is good enough: asking costs a thread that the writers want. */
const FREE_TTL_MS = 1_000;

/** Asks again only when the last answer is old; those who ask meanwhile share one question. */
function remembered(ask: () => Promise<number>, now: () => number): () => Promise<number> {
  let answer: { readonly at: number; readonly value: Promise<number> } | null = null;
  return () => {
    if (answer === null || Math.abs(now() - answer.at) > FREE_TTL_MS) {
      const value = ask();
      answer = { at: now(), value };
      value.catch(() => {
        answer = null;
      });
    }
    return answer.value;
  };
}

/** What each of the system's codes means for the operator of a folder. */
const UNUSABLE: Readonly<Record<string, string>> = {
  EEXIST: "it is a file: name a folder",
  ENOTDIR: "it is no folder, or part of its path is none",
  EACCES: "access is denied: check owner and permissions",
  EPERM: "access is denied: check owner and permissions",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full: make room",
  EDQUOT: "the disk quota is used up: make room",
};

function unusable(error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  return UNUSABLE[code] ?? message;
}

/** The few failures that an operator can mend, in words. */
function explained(error: unknown): unknown {
  const full = isErrno(error, "ENOSPC")
    ? "There is no space left on the blob disk"
    : isErrno(error, "EDQUOT")
      ? "The quota of the blob disk is used up"
      : null;
  if (full !== null) return new DocyardError("no_space", full, { cause: error });
  if (isErrno(error, "EMFILE", "ENFILE")) {
    return new Error("too many open files: raise the limit (ulimit -n)", { cause: error });
  }
  return error;
}

/** Opens the directory, making it if need be. @throws Error in one line when it cannot be used. */
export async function diskBlobs(options: DiskBlobsOptions): Promise<DiskBlobs> {
  const { verifyReads = "full", now = Date.now, idleTimeoutMs = IDLE_TIMEOUT_MS, io = nodeDiskIo } = options;
  const root = resolve(options.root);
  const urls = createUrls({ baseUrl: options.baseUrl, secret: options.secret, now });
  const files = createBlobFiles(io, root);
  /** Bytes that uploads under way have announced. Part of them is on the disk by now, so this errs on the safe side. */
  let awaited = 0;
  const closing = new AbortController();
  // One listener per transfer is no leak.
  setMaxListeners(0, closing.signal);
  const served = createDiskServed(files, verifyReads, closing.signal);
  const active = new Set<Promise<unknown>>();

  /** Refuses after `close`, and lets `close` wait for what is under way. */
  const run = async <T>(work: () => Promise<T>): Promise<T> => {
    closing.signal.throwIfAborted();
    const promise = work();
    active.add(promise);
    try {
      return await promise;
    } catch (error) {
      // Whatever the call was: a full disk has no room for a name or a folder either.
      throw explained(error);
    } finally {
      active.delete(promise);
    }
  };
  const free = remembered(() => run(() => files.free()), now);
  const until = (signal: AbortSignal | undefined): AbortSignal =>
    signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);

  const put: BlobStore["put"] = async (key, body, { sizeMax, signal, mayVanish = false }) => {
    files.pathFor(key);
    const staged = await files.stage(body, { sizeMax, memory: "lent", signal: until(signal) });
    await files.publish(key, staged, mayVanish);
    if (!mayVanish) await files.sync(key);
    return { size: staged.sums.size, digest: staged.sums.digest };
  };

  const get: BlobStore["get"] = async (key, { range, signal } = {}) => {
    signal?.throwIfAborted();
    const found = await files.stat(key);
    if (found === null) throw new DocyardError("not_found", "No such blob");
    const { size, file } = found;
    const checked = checkRange(range, size);
    return {
      size,
      body: { [Symbol.asyncIterator]: () => read(key, { size, file }, checked, until(signal)) },
    };
  };

  /** Opens when reading begins: a body that nobody reads holds no descriptor. */
  const read = async function* (
    key: string,
    found: { readonly size: number; readonly file: Parameters<typeof sameFile>[0] },
    range: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    signal.throwIfAborted();
    const opened = await files.open(key);
    if (opened === null) throw new DocyardError("not_found", "No such blob");
    try {
      if (!sameFile(opened.file, found.file)) throw new Error("the blob was replaced before it was read");
      const { handle, size } = opened;
      const sidecar =
        verifyReads === "off" || size <= CHUNK_BYTES ? null : await files.readSidecar(key, size);
      const crcs = sidecar !== null && sameFile(sidecar.file, opened.file) ? sidecar.crcs : null;
      yield* bytesOf(readPieces({ handle, size, range, crcs, digest: null, signal }));
    } catch (error) {
      if (!(error instanceof CorruptBlob)) throw error;
      throw new DocyardError("data_loss", "The stored bytes are damaged", { cause: error });
    } finally {
      await opened.handle.close();
    }
  };

  const digest: BlobStore["digest"] = async (key, { signal } = {}) => {
    signal?.throwIfAborted();
    const opened = await files.open(key);
    if (opened === null) return null;
    try {
      const sums = await readSums(opened, until(signal));
      return { size: sums.size, digest: sums.digest };
    } finally {
      await opened.handle.close();
    }
  };

  const copy: BlobStore["copy"] = async (from, to, expected) => {
    const matches = (sums: { readonly size: number; readonly digest: string | null } | null): boolean =>
      sums?.size === expected.size && sums.digest === expected.digest;
    if (await files.adopt(from, to, expected)) {
      await files.sync(to);
      return true;
    }
    const pinned = await files.pin(from, closing.signal);
    if (pinned === null) {
      // A copy that was cut off after its rename may have left this; then its name still has to be made durable.
      if (!matches(await files.stat(to))) return false;
      await files.sync(to);
      return true;
    }
    if (!matches(pinned.sums)) {
      await files.discard(pinned);
      return false;
    }
    await files.publish(to, pinned);
    await Promise.all([files.sync(to), files.discard(pinned)]);
    return true;
  };

  await files.prepare(now()).catch((error: unknown) => {
    throw new Error(`cannot use ${root} for blobs: ${unusable(error)}`, { cause: error });
  });
  await urls.ready();

  return {
    put: (key, body, limits) => run(() => put(key, body, limits)),
    get: (key, part) => run(() => get(key, part)),
    stat: (key) =>
      run(async () => {
        const found = await files.stat(key);
        return found === null ? null : { size: found.size, digest: found.digest };
      }),
    digest: (key, stop) => run(() => digest(key, stop)),
    copy: (from, to, expected) => run(() => copy(from, to, expected)),
    delete: (key, { mayReturn = false } = {}) => run(() => files.remove(key, mayReturn)),
    list: (prefix, page) => run(() => listFiles(io, root, prefix, page)),
    dropUnfinished: (before) => run(() => files.dropUnfinished(before)),
    // Pure computing, a thousand times for one page of a list: nothing for `close` to wait for.
    async signPut(key, grant) {
      closing.signal.throwIfAborted();
      return urls.signPut(key, grant);
    },
    async signGet(key, grant) {
      closing.signal.throwIfAborted();
      return urls.signGet(key, grant);
    },
    serve: createBlobService({
      urls,
      blobs: {
        receive: (key, body, upload) =>
          run(async () => {
            awaited += upload.announced;
            try {
              return await served.receive(key, body, upload);
            } finally {
              awaited -= upload.announced;
            }
          }),
        open: (key, announced) => run(() => served.open(key, announced)),
      },
      idleTimeoutMs,
      closing: closing.signal,
    }),
    // Asked by every create and upload, and nearly always known.
    async space() {
      closing.signal.throwIfAborted();
      return (await free()) - awaited;
    },
    ready: () => run(() => files.probe()),
    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the blob store is closed"));
      await Promise.allSettled(active);
      await served.closeAll();
    },
  };
}
