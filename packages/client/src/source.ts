/**
 * What may be uploaded, in one form: bytes that are held and can be sent whole, or streams that are opened and tapped.
 * Sending is left to `send.ts`.
 */

import { until } from "./retry.ts";
import { createHasher, digestOf } from "./sha256.ts";

/**
 * Bytes to upload. Held ones (`Blob`, `File`, bytes, text as UTF-8) are sent whole, which every browser can do. Streams
 * need a runtime that can stream request bodies; a function that opens one anew each time can be sent again after a
 * broken connection, a bare stream cannot.
 */
export type Source =
  | Blob
  | Uint8Array
  | ArrayBuffer
  | string
  | ByteStream
  | (() => ByteStream | Promise<ByteStream>);

/** As much of a `ReadableStream` as is used: the DOM's types and Node's own (`Readable.toWeb`) are not assignable. */
export interface ByteStream {
  getReader(): {
    read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
    cancel(reason?: unknown): Promise<void>;
  };
  cancel(reason?: unknown): Promise<void>;
}

/** A source that is held. */
export type Held = Blob | Uint8Array<ArrayBuffer>;

export interface Body {
  /** Null for streams. */
  readonly held: Held | null;
  /** Bytes, where that is known before they are read. */
  readonly size: number | null;
  readonly isReplayable: boolean;
  open(): Promise<ByteStream>;
  /** Lets go of a stream that will not be read; never rejects. */
  discard(): Promise<void>;
}

/** @throws TypeError for what is no source. */
export function bodyOf(source: Source): Body {
  if (typeof source === "function") {
    return { ...STREAMED, isReplayable: true, open: async () => source(), discard: async () => {} };
  }
  if (typeof source === "string") return heldBody(new TextEncoder().encode(source));
  // By what they are and can do, not `instanceof`: realms and polyfills each have classes of their own.
  if (Object.prototype.toString.call(source) === "[object ArrayBuffer]") {
    return heldBody(new Uint8Array(source as ArrayBuffer));
  }
  if (ArrayBuffer.isView(source)) {
    const { buffer, byteOffset, byteLength } = source;
    return heldBody(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength));
  }
  // A `Response` has the one and not the other.
  const { arrayBuffer, stream: open } = (source ?? {}) as Partial<Blob>;
  if (typeof arrayBuffer === "function" && typeof open === "function") return heldBody(source as Blob);
  if (typeof (source as Partial<ByteStream> | null)?.getReader === "function") {
    const stream = source as ByteStream;
    const discard = (): Promise<void> => stream.cancel().catch(() => {});
    return { ...STREAMED, isReplayable: false, open: async () => stream, discard };
  }
  throw new TypeError("source must be a Blob, bytes, text, a ReadableStream or a function that opens one");
}

const STREAMED = { held: null, size: null } as const;

function heldBody(held: Held): Body {
  return {
    held,
    size: "byteLength" in held ? held.byteLength : held.size,
    isReplayable: true,
    open: async () => ("byteLength" in held ? new Blob([held]) : held).stream(),
    discard: async () => {},
  };
}

/** The work's end; should it fail, the body is let go of. */
export async function orDiscard<T>(body: Body, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    await body.discard();
    throw error;
  }
}

/** Blobs up to so many bytes are read whole, for WebCrypto's speed: 64 MiB. */
const WHOLE_BYTES_MAX = 64 * 1024 ** 2;

/**
 * The SHA-256 of a source as 64 lower-case hex digits, in constant memory: WebCrypto for what is held (blobs up to
 * 64 MiB), this package's own for the rest. A bare stream is used up by it.
 * @throws TypeError for what is no source; whatever reading it throws.
 */
export async function sha256(
  source: Source,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<string> {
  return digestOfBody(bodyOf(source), options.signal);
}

export async function digestOfBody(body: Body, signal?: AbortSignal): Promise<string> {
  const { held } = body;
  if (held !== null && "byteLength" in held) {
    signal?.throwIfAborted();
    return digestOf(held);
  }
  if (held !== null && held.size <= WHOLE_BYTES_MAX) {
    return digestOf(new Uint8Array(await until(signal, held.arrayBuffer())));
  }
  const hasher = createHasher();
  const reader = (await body.open()).getReader();
  try {
    for (;;) {
      const { done, value } = await until(signal, reader.read());
      if (done) break;
      hasher.update(checkChunk(value));
    }
  } catch (error) {
    await reader.cancel(error).catch(() => {});
    throw error;
  }
  return hasher.hex();
}

/** A stream that somebody else reads, seen from the side. */
export interface Tap {
  readonly stream: ReadableStream<Uint8Array>;
  /** Set once the source itself has failed, which no network is to blame for. */
  readonly fault: { readonly error: unknown } | null;
  /** Lets go of the source, also where the reader of `stream` did not. */
  end(): Promise<void>;
}

/**
 * Reads ahead by nothing, so that what is counted has been asked for; but a chunk that should be the last is handed on
 * only once the source has ended, so that no receiver takes a part for the whole.
 * @param onChunk told null when the source has ended; what it throws breaks the stream
 * @returns from `onChunk`: whether that should be all
 */
export function tap(source: ByteStream, onChunk: (chunk: Uint8Array | null) => boolean): Tap {
  const reader = source.getReader();
  let fault: Tap["fault"] = null;
  let isAll = false;
  let isLetGo = false;
  const next = async (): Promise<Uint8Array | null> => {
    const { done, value } = await reader.read();
    // A cancelled source ends, too, and says nothing by it.
    if (isLetGo) return null;
    const chunk = done ? null : checkChunk(value);
    isAll = onChunk(chunk);
    return chunk;
  };
  const untilEnd = async (): Promise<void> => {
    while ((await next()) !== null) continue;
  };
  const letGo = (reason?: unknown): Promise<void> => {
    isLetGo = true;
    return reader.cancel(reason);
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const chunk = await next();
          if (isAll && chunk !== null) await untilEnd();
          if (chunk !== null) controller.enqueue(chunk);
          if (chunk === null || isAll) controller.close();
        } catch (error) {
          if (!isLetGo) fault = { error };
          throw error;
        }
      },
      cancel: letGo,
    },
    { highWaterMark: 0 },
  );
  return {
    stream,
    get fault() {
      return fault;
    },
    end: () => letGo().catch(() => {}),
  };
}

function checkChunk(chunk: unknown): Uint8Array {
  if (ArrayBuffer.isView(chunk) && "length" in chunk) return chunk as Uint8Array;
  throw new TypeError("the stream must yield bytes (Uint8Array)");
}
