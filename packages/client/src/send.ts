/**
 * Bytes to a signed URL, repeated where the source can be read again. Needs no credentials: whoever holds the URL may
 * send, a browser too.
 */

import { DocyardApiError } from "./errors.ts";
import type { Connection, ConnectionOptions } from "./http.ts";
import { connection, exchange } from "./http.ts";
import { isTransient, retrying } from "./retry.ts";
import { createHasher } from "./sha256.ts";
import type { Body, Source, Tap } from "./source.ts";
import { bodyOf, orDiscard, tap } from "./source.ts";

/** How far a transfer has come. */
export interface Progress {
  /** Bytes so far; starts again at 0 when an upload is repeated. */
  readonly loaded: number;
  /** Bytes in all; null for a stream of unknown length. */
  readonly total: number | null;
}

/** Where to send bytes: what `create` answered, or part of it. */
export interface UploadTarget {
  /** Signed, and as secret as what may be written there. */
  readonly uploadUrl: string;
  /** Must be sent along, where there are any. */
  readonly uploadHeaders?: Readonly<Record<string, string>> | undefined;
}

export interface SendOptions {
  /** Of the request; what the artifact's is, `create` has settled. Default: a blob's own, else `application/octet-stream`. */
  readonly contentType?: string | undefined;
  /** Bytes of a stream, where they are known. Servers that keep their bytes in a bucket need it; others do not. */
  readonly size?: number | undefined;
  /**
   * Streams: as chunks are handed to the network. Held sources: at the start and at the end, since they are sent whole.
   */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends the transfer, and any wait before another try, with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Sends bytes to a signed URL; they are an artifact only once `complete` has verified them.
 * @throws DocyardApiError; TypeError for what is no source or target; RangeError for a stream of another `size`.
 */
export async function sendBytes(
  target: UploadTarget,
  source: Source,
  options: SendOptions & ConnectionOptions = {},
): Promise<void> {
  await send(connection(options), target, bodyOf(source), { ...options, isHashed: false });
}

const UNSENT =
  "The PUT of the bytes was answered before all of them were sent: where streams cannot be sent, give it a Blob";

/** @returns the SHA-256 of a stream that was to be hashed as it went, else null */
export async function send(
  to: Connection,
  { uploadUrl, uploadHeaders = {} }: UploadTarget,
  body: Body,
  options: SendOptions & { readonly isHashed: boolean },
): Promise<string | null> {
  const { signal, onProgress, isHashed, size } = options;
  const total = body.size ?? size ?? null;
  const type = options.contentType ?? (typeOf(body) || "application/octet-stream");
  const headers: Record<string, string> = { "Content-Type": type, ...uploadHeaders };

  const put = async (init: RequestInit & { duplex?: "half" }): Promise<void> => {
    const what = "the PUT of the bytes";
    const response = await exchange(to, {
      what,
      url: uploadUrl,
      signal,
      init: { method: "PUT", headers, ...init },
    });
    // Read to its end, so that the connection can serve again.
    await response.arrayBuffer().catch(() => {});
  };

  const sendHeld = async (held: NonNullable<Body["held"]>): Promise<null> => {
    onProgress?.({ loaded: 0, total });
    await put({ body: held });
    onProgress?.({ loaded: total ?? 0, total });
    return null;
  };

  const sendStream = async (): Promise<string | null> => {
    const hasher = isHashed ? createHasher() : null;
    let loaded = 0;
    onProgress?.({ loaded, total });
    let isEnded = false;
    const tapped: Tap = tap(await body.open(), (chunk) => {
      loaded += chunk?.length ?? 0;
      isEnded = chunk === null;
      checkSize(size, loaded, isEnded);
      if (chunk !== null) {
        hasher?.update(chunk);
        onProgress?.({ loaded, total });
      }
      return loaded === size;
    });
    // Browsers ignore it; where it is heeded, the body need not be sent in chunks.
    if (size !== undefined) headers["Content-Length"] = `${size}`;
    try {
      await put({ body: tapped.stream as ReadableStream<Uint8Array<ArrayBuffer>>, duplex: "half" });
    } catch (error) {
      await tapped.end();
      throw tapped.fault === null ? error : tapped.fault.error;
    }
    // Browsers that cannot stream send the text "[object ReadableStream]" in its place, and call that a success.
    if (!isEnded) {
      await tapped.end();
      throw new DocyardApiError("protocol", UNSENT);
    }
    return hasher?.hex() ?? null;
  };

  const sending = async (): Promise<string | null> => {
    checkTarget(uploadUrl, headers);
    return retrying(
      to.policy,
      { signal, isRetryable: (error) => body.isReplayable && isTransient(error) },
      () => (body.held === null ? sendStream() : sendHeld(body.held)),
    );
  };
  return orDiscard(body, sending());
}

/** @throws TypeError, before anything is opened, for what makes no request; it repeats nothing that is signed. */
function checkTarget(uploadUrl: unknown, headers: Record<string, string>): void {
  if (typeof uploadUrl !== "string") {
    throw new TypeError("uploadUrl is missing: a duplicate has none, since its bytes are there already");
  }
  try {
    void new Request(uploadUrl, { method: "PUT", headers });
  } catch {
    throw new TypeError("uploadUrl, uploadHeaders and contentType must be fit for a request");
  }
}

/** @throws RangeError for a stream that is not as long as it was said to be. */
function checkSize(size: number | undefined, loaded: number, isEnd: boolean): void {
  if (size === undefined || loaded === size || (loaded < size && !isEnd)) return;
  throw new RangeError(`size is ${size}, but the stream has ${isEnd ? loaded : "more"} bytes`);
}

/** A blob's own type, or an empty text. */
export function typeOf({ held }: Body): string {
  return held !== null && "type" in held ? held.type : "";
}

/** @throws DocyardApiError `integrity_mismatch` where both are known and differ. */
export function checkDigest(expected: string | null, found: string | null, what: string): void {
  if (expected === null || found === null || expected === found) return;
  throw new DocyardApiError(
    "integrity_mismatch",
    `${what} should have SHA-256 ${expected}, but has ${found}`,
  );
}

/** Without `sha256:`, in lower case; null for what is not known. */
export function bareDigest(hash: string | null | undefined): string | null {
  return hash == null ? null : hash.toLowerCase().replace("sha256:", "");
}
