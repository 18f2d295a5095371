/**
 * Bytes from a signed URL, whole or a range: taken up again where a connection broke, and checked against their SHA-256.
 * Where a fresh URL comes from is the clients' to say.
 */

import { DocyardApiError, networkError } from "./errors.ts";
import type { Connection } from "./http.ts";
import { exchange, inTime } from "./http.ts";
import { backoff, retrying } from "./retry.ts";
import type { Progress } from "./send.ts";
import { bareDigest, checkDigest } from "./send.ts";
import { createHasher, digestOf } from "./sha256.ts";

export interface DownloadOptions {
  /** Only these bytes: from `start` up to, but without, `end` (default: the last byte), as in `Blob.slice`. */
  readonly range?: { readonly start: number; readonly end?: number | undefined } | undefined;
  /** As chunks arrive. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends the transfer, also while it is being read, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** How often a broken connection is taken up again, in all. Default 8. */
  readonly resumes?: number | undefined;
  /** Whether the whole of an artifact is checked against its SHA-256. Ranges cannot be. Default true. */
  readonly verify?: boolean | undefined;
}

/** A body on its way; read it once, by one of these. */
export interface Download {
  /** Bytes that will come. */
  readonly size: number;
  readonly contentType: string;
  /**
   * The bytes as they come, connection breaks mended. The last chunk is held back until the SHA-256 of all has matched:
   * a stream that ends, ends whole and right. Cancel it to stop.
   */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  blob(): Promise<Blob>;
  /** As UTF-8. */
  text(): Promise<string>;
}

/** A signed URL and what is known of the bytes behind it. */
interface Located {
  readonly url: string;
  readonly size: number;
  /** Hex; null where the API shows none. */
  readonly digest: string | null;
  readonly contentType?: string | undefined;
}

/** As much of an artifact as `download` looks at. */
export interface DownloadableArtifact {
  readonly id: string;
  readonly size?: number | null | undefined;
  readonly hash?: string | null | undefined;
  readonly contentType?: string | undefined;
  readonly downloadUrl?: string | null | undefined;
  readonly expiresAt?: string | null | undefined;
}

/** Default of `DownloadOptions.resumes`. */
const RESUMES_MAX = 8;
const WHAT = "the GET of the bytes";

/** @param get the artifact as it is now, its URL just signed */
export async function openDownload(
  to: Connection,
  artifact: string | DownloadableArtifact,
  get: (id: string) => Promise<DownloadableArtifact>,
  options: DownloadOptions,
): Promise<Download> {
  const { signal, range, verify = true } = options;
  signal?.throwIfAborted();
  const given = typeof artifact === "string" ? { id: artifact } : artifact;
  const locate = async (): Promise<Located> => locatedNow(await get(given.id));
  const located = locatedUntil(given, to.now()) ?? (await locate());
  const { start, end } = checkRange(range, located.size);
  const size = end - start;
  const digest = verify && size === located.size ? located.digest : null;
  const connect = connector(to, located, locate, { start, end, signal });
  const first = await connect(0);
  const contentType = first.contentType ?? located.contentType ?? "application/octet-stream";

  let isTaken = false;
  const take = (isChecked: boolean): ReadableStream<Uint8Array<ArrayBuffer>> => {
    if (isTaken) throw new TypeError("this download is being read already");
    isTaken = true;
    return streamOf(chunks(to, first.reader, connect, size, options), isChecked ? digest : null);
  };
  const bytes = async (): Promise<Uint8Array<ArrayBuffer>> => {
    const whole = new Uint8Array(size);
    const reader = take(false).getReader();
    let at = 0;
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      whole.set(next.value, at);
      at += next.value.length;
    }
    if (digest !== null) checkDigest(digest, await digestOf(whole), "The download");
    return whole;
  };
  return {
    size,
    contentType,
    get stream() {
      return take(true);
    },
    bytes,
    blob: async () => new Blob([await bytes()], { type: contentType }),
    text: async () => new TextDecoder().decode(await bytes()),
  };
}

/** Where the bytes are, if the row says so and its URL still lives. */
function locatedUntil(artifact: DownloadableArtifact, now: number): Located | null {
  const { downloadUrl, expiresAt, size, hash, contentType } = artifact;
  const isLive = typeof expiresAt !== "string" || Date.parse(expiresAt) > now;
  if (typeof downloadUrl !== "string" || typeof size !== "number" || !isLive) return null;
  return { url: downloadUrl, size, digest: bareDigest(hash), contentType };
}

/** Whatever the clock here says of its end. @throws DocyardApiError `not_completed` */
function locatedNow(artifact: DownloadableArtifact): Located {
  const found = locatedUntil({ ...artifact, expiresAt: null }, 0);
  if (found !== null) return found;
  throw new DocyardApiError("not_completed", `Artifact ${artifact.id} has no bytes to download yet`);
}

/** @throws RangeError unless it names at least one byte, or all of an empty artifact. */
function checkRange(range: DownloadOptions["range"], size: number): { start: number; end: number } {
  if (range === undefined) return { start: 0, end: size };
  const { start } = range;
  const end = Math.min(range.end ?? size, size);
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start < end) {
    return { start, end };
  }
  throw new RangeError(`range must name bytes between 0 and ${size}`);
}

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

interface Connected {
  readonly reader: Reader;
  readonly contentType: string | null;
}

/** Opens the body after so many bytes, which have come already. */
type Connect = (done: number) => Promise<Connected>;

function connector(
  to: Connection,
  first: Located,
  locate: () => Promise<Located>,
  {
    start,
    end,
    signal,
  }: { readonly start: number; readonly end: number; readonly signal: AbortSignal | undefined },
): Connect {
  let { url } = first;
  const get = async (at: number): Promise<Connected> => {
    const isWhole = at === 0 && end === first.size;
    const init = { headers: isWhole ? {} : { Range: `bytes=${at}-${end - 1}` } };
    const response = await retrying(to.policy, { signal }, () =>
      inTime(to, WHAT, signal, (limited) => exchange(to, { what: WHAT, url, init, signal: limited })),
    );
    const reader: Reader = (response.body ?? new Blob([]).stream()).getReader();
    letGoOnAbort(reader, signal);
    // A server that does not know ranges sends all: what is not wanted is read and dropped.
    const from = isWhole || response.status !== 206 ? 0 : firstByte(response, at);
    if (from !== at && response.status === 206) {
      await reader.cancel().catch(() => {});
      throw new DocyardApiError("protocol", `${WHAT} was answered with other bytes than those asked for`, {
        status: response.status,
      });
    }
    return {
      reader: from === at ? reader : skipping(reader, at),
      contentType: response.headers.get("content-type"),
    };
  };
  return async (done) => {
    try {
      return await get(start + done);
    } catch (error) {
      // Expired, most likely: signed URLs live for an hour.
      if (!(error instanceof DocyardApiError) || error.status !== 403) throw error;
      ({ url } = await locate());
      return get(start + done);
    }
  };
}

/** Also while nobody reads: a body that is never begun, or not gone on with, holds a connection. */
function letGoOnAbort(reader: Reader, signal: AbortSignal | undefined): void {
  const onAbort = (): void => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", onAbort, { once: true });
  void reader.closed.catch(() => {}).finally(() => signal?.removeEventListener("abort", onAbort));
}

/** By `Content-Range`; where a browser is not shown it, as asked. */
function firstByte({ headers }: Response, asked: number): number {
  const start = /^bytes (\d+)-/.exec(headers.get("content-range") ?? "")?.[1];
  return start === undefined ? asked : Number(start);
}

/** The same reader behind its first bytes. */
function skipping(reader: Reader, bytes: number): Reader {
  let left = bytes;
  const read = reader.read.bind(reader);
  reader.read = async () => {
    for (;;) {
      const next = await read();
      if (next.done || next.value.length > left) {
        const rest = next.done ? next : { done: false as const, value: next.value.subarray(left) };
        left = 0;
        return rest;
      }
      left -= next.value.length;
    }
  };
  return reader;
}

/** Exactly `size` bytes, over as many connections as it takes and is allowed to. */
async function* chunks(
  to: Connection,
  first: Reader,
  connect: Connect,
  size: number,
  { signal, onProgress, resumes = RESUMES_MAX }: DownloadOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let reader: Reader = first;
  let loaded = 0;
  let broken = 0;
  try {
    onProgress?.({ loaded, total: size });
    while (loaded < size) {
      let next: ReadableStreamReadResult<Uint8Array<ArrayBuffer>>;
      try {
        next = await inTime(to, WHAT, signal, () => reader.read());
        if (next.done) throw networkError(WHAT, new Error(`the body ended after ${loaded} of ${size} bytes`));
      } catch (error) {
        signal?.throwIfAborted();
        broken += 1;
        if (broken > resumes) throw error;
        await reader.cancel().catch(() => {});
        await to.policy.sleep(backoff(to.policy, broken), signal);
        ({ reader } = await connect(loaded));
        continue;
      }
      const chunk = next.value;
      if (chunk.length > size - loaded) {
        throw new DocyardApiError("protocol", `${WHAT} brought more than the ${size} bytes that there are`);
      }
      loaded += chunk.length;
      onProgress?.({ loaded, total: size });
      yield chunk;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** A stream of chunks, the last of them withheld until the digest of all has matched. */
function streamOf(
  source: AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>,
  digest: string | null,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const hasher = digest === null ? null : createHasher();
  let held: Uint8Array<ArrayBuffer> | null = null;
  return new ReadableStream(
    {
      async pull(controller) {
        for (;;) {
          const next = await source.next();
          const ready = held;
          if (next.done === true) {
            if (hasher !== null) checkDigest(digest, hasher.hex(), "The download");
            if (ready !== null) controller.enqueue(ready);
            return controller.close();
          }
          hasher?.update(next.value);
          held = next.value;
          if (ready !== null) return controller.enqueue(ready);
        }
      },
      async cancel() {
        await source.return();
      },
    },
    { highWaterMark: 0 },
  );
}
