/**
 * The plan of every answer to a signed URL: who may, what is answered, in which order. Two thin transports act on it,
 * `serve-fetch.ts` and `serve-node.ts`; where bytes lie is left to a `ServedBlobs`.
 */

import type { BlobGrant, BlobHost, ByteRange } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { Answer, HeaderLookup } from "./http.ts";
import { CORS_HEADERS, etagOf, planDownload } from "./http.ts";
import type { GetTicket, PutTicket } from "./signed-url.ts";
import type { Urls } from "./urls.ts";

/** A transfer on which no byte moves for so long is given up (lesson R-05: no ghost holds a slot). */
export const IDLE_TIMEOUT_MS = 60_000;

/**
 * Whose a chunk of a body is: `lent` until the next one is asked for, `shared` with whoever else holds it, or `given` to
 * its reader, who may take the bytes away from everybody else.
 */
export type ChunkMemory = "lent" | "shared" | "given";

/** What a store gives this service to work with. */
export interface ServedBlobs {
  /**
   * Stores the body under `key` once it is whole and `publish` has agreed. Whatever rejects, no trace is left. The bytes are synced; that the name is, too, is `copy`'s promise.
   * @throws DocyardError `too_large`
   */
  receive(
    key: string,
    body: AsyncIterable<Uint8Array>,
    options: {
      readonly sizeMax: number;
      /** Bytes the client means to send; 0 when it does not say. */
      readonly announced: number;
      readonly memory: ChunkMemory;
      readonly signal: AbortSignal;
      readonly publish: (received: { readonly size: number }) => Promise<void>;
    },
  ): Promise<{ readonly size: number; readonly digest: string }>;

  /**
   * Opens what is under `key`, or null.
   * @throws CorruptBlob if it cannot be what was announced.
   */
  open(key: string, announced: { readonly size: number; readonly digest: string }): Promise<OpenBlob | null>;
}

export interface OpenBlob {
  /**
   * The range in verified pieces, and nothing else, ever; rejects once the signal aborts. A piece's memory is reused
   * after its `release`.
   * @throws CorruptBlob in place of the first piece that does not match.
   */
  pieces(range: ByteRange, signal: AbortSignal): AsyncIterable<Piece>;
  /** Releases what is held; repeating it is harmless. */
  close(): Promise<void>;
}

export interface Piece {
  readonly bytes: Uint8Array;
  /** To be called once, when the bytes have been handed on or copied. */
  readonly release: () => void;
}

/** Stored bytes are not what they were; the message says how, for the log and the event. */
export class CorruptBlob extends Error {
  override readonly name = "CorruptBlob";
}

export interface ServiceContext {
  readonly urls: Pick<Urls, "redeem">;
  readonly blobs: ServedBlobs;
  /** Milliseconds without a byte after which a transfer is given up. */
  readonly idleTimeoutMs: number;
  /** Aborts when the store closes: transfers under way end. */
  readonly closing: AbortSignal;
}

export function isPut(ticket: PutTicket | GetTicket): ticket is PutTicket {
  return ticket.grant.method === "PUT";
}

/** The whole of an upload but its transport; resolves to the headers of the 200. */
export async function acceptUpload(
  { blobs }: ServiceContext,
  { grant, sizeMax }: PutTicket,
  host: BlobHost,
  upload: {
    readonly header: HeaderLookup;
    readonly body: AsyncIterable<Uint8Array>;
    readonly memory: ChunkMemory;
    readonly signal: AbortSignal;
  },
): Promise<Record<string, string>> {
  // RFC 9110, 14.5: a part would pass for the whole, and nobody would know before it is missed.
  if (upload.header("content-range") !== undefined) {
    throw new DocyardError(
      "invalid_argument",
      "A part cannot be uploaded: PUT the whole file, without Content-Range",
    );
  }
  const announced = parseContentLength(upload.header("content-length"));
  await host.admit(grant, Math.min(announced ?? 0, sizeMax));
  if (announced !== null && announced > sizeMax) throw tooLarge(sizeMax);
  const { digest } = await blobs.receive(grant.key, upload.body, {
    sizeMax,
    announced: announced ?? 0,
    memory: upload.memory,
    signal: upload.signal,
    async publish({ size }) {
      if (announced !== null && announced !== size) {
        throw new DocyardError("invalid_argument", `The body ended after ${size} of ${announced} bytes`);
      }
      // The artifact may have been completed while the body was coming.
      await host.admit(grant);
    },
  });
  return {
    ...CORS_HEADERS,
    "Access-Control-Expose-Headers": "ETag",
    ETag: etagOf(digest),
    "Content-Length": "0",
  };
}

export interface OpenedDownload {
  readonly answer: Answer;
  /** The body, its first piece already verified; null where there is none. To be read to its end or returned. */
  readonly pieces: AsyncGenerator<Piece, void, void> | null;
}

/** The whole of a download but its transport: signature, then admission, 404, conditions, range, first piece. */
export async function openDownload(
  { blobs }: ServiceContext,
  ticket: GetTicket,
  host: BlobHost,
  { header, signal }: { readonly header: HeaderLookup; readonly signal: AbortSignal },
): Promise<OpenedDownload> {
  const { grant } = ticket;
  await host.admit(grant);
  const blob = await guardCorruption(grant, host, blobs.open(grant.key, ticket));
  if (blob === null) throw new DocyardError("not_found", "The bytes of this artifact are not there");
  let pieces: AsyncGenerator<Piece, void, void> | null = null;
  try {
    const answer = planDownload(grant.method, header, ticket);
    if (answer.range === null) return { answer, pieces: null };
    const source = blob.pieces(answer.range, signal)[Symbol.asyncIterator]();
    const first = await guardCorruption(grant, host, source.next());
    pieces = rest(grant, host, blob, source, first);
    return { answer, pieces };
  } finally {
    if (pieces === null) await blob.close();
  }
}

async function* rest(
  grant: BlobGrant,
  host: BlobHost,
  blob: OpenBlob,
  source: AsyncIterator<Piece>,
  first: IteratorResult<Piece, unknown>,
): AsyncGenerator<Piece, void, void> {
  try {
    for (let next = first; next.done !== true; next = await guardCorruption(grant, host, source.next())) {
      yield next.value;
    }
  } finally {
    await source.return?.();
    await blob.close();
  }
}

/** Tells the host of corruption and turns it into `data_loss`; the host's own failure to note it changes nothing. */
async function guardCorruption<T>(grant: BlobGrant, host: BlobHost, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof CorruptBlob)) throw error;
    let cause: unknown = error;
    await host.corrupt(grant, error.message).catch((failure: unknown) => {
      cause = new AggregateError([error, failure], "corruption found, and the host could not note it");
    });
    throw new DocyardError("data_loss", "The stored bytes are damaged and were not handed out", { cause });
  }
}

/** Gives an upload up when no byte has come for the idle time or the store closes. */
interface Stopper {
  readonly signal: AbortSignal;
  /** The same chunks, each of them a sign of life. */
  watch(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  end(): void;
}

export function stopper({ idleTimeoutMs, closing }: ServiceContext): Stopper {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(
      new DocyardError("invalid_argument", `No bytes arrived for ${Math.ceil(idleTimeoutMs / 1000)} seconds`),
    );
  }, idleTimeoutMs);
  timer.unref();
  const onClosing = (): void => controller.abort(closing.reason);
  if (closing.aborted) onClosing();
  else closing.addEventListener("abort", onClosing, { once: true });
  return {
    signal: controller.signal,
    // By hand: a generator takes several turns of promises for each chunk.
    watch: (body) => ({
      [Symbol.asyncIterator]() {
        const source = body[Symbol.asyncIterator]();
        return {
          async next() {
            const result = await source.next();
            timer.refresh();
            return result;
          },
          async return() {
            await source.return?.();
            return { done: true, value: undefined };
          },
        };
      },
    }),
    end() {
      clearTimeout(timer);
      closing.removeEventListener("abort", onClosing);
    },
  };
}

export function tooLarge(sizeMax: number): DocyardError {
  return new DocyardError("too_large", `File size exceeds the limit of ${sizeMax} bytes`);
}

/** Null without the header. @throws DocyardError `invalid_argument` for anything but digits. */
function parseContentLength(header: string | undefined): number | null {
  if (header === undefined) return null;
  if (!/^\d+$/.test(header)) {
    throw new DocyardError("invalid_argument", "Content-Length must be a whole number of bytes");
  }
  return Number(header);
}

/** The bytes of pieces, each valid until the next one is asked for. */
export async function* bytesOf(pieces: AsyncIterable<Piece>): AsyncGenerator<Uint8Array, void, void> {
  for await (const piece of pieces) {
    yield piece.bytes;
    piece.release();
  }
}
