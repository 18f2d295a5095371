/**
 * Moves the body of one HTTP answer: floor on the pace, resuming after a lost connection, decoding, and the size limit,
 * each a generator around the next, so nothing is read before it is asked for (lesson R-25).
 * Who may be dialled and which answers count is decided in `http.ts`.
 */

import { DocyardError, isDocyardError } from "@docyard/core";
import type { Transform } from "node:stream";
import { Readable, pipeline } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { codeOf } from "../error-code.ts";

/** One answer of an origin, its body unread. */
export interface Answer {
  readonly url: URL;
  readonly status: number;
  /** By lower-case name; repeated fields joined by commas; null when absent or empty. */
  header(name: string): string | null;
  readonly body: AsyncIterable<Uint8Array>;
  /** Closes the connection of a body that nobody wants. */
  abandon(): void;
}

/** The same request again, with these headers too. */
export type Ask = (headers: Record<string, string>) => Promise<Answer>;

/** `Content-Length`, or null where it is absent or of the wrong kind. */
export function announcedSize(answer: Answer): number | null {
  const header = answer.header("content-length");
  if (header === null || !/^\d{1,16}$/.test(header)) return null;
  const size = Number(header);
  return Number.isSafeInteger(size) ? size : null;
}

/** Bytes per second, averaged over a window of waiting, below which an origin only ties up a worker. */
const PACE_MIN = 1024;

/**
 * The body's own chunks; fails as a lost connection does when the origin drips. Only time spent waiting for the origin
 * counts, so a slow reader never makes a fast origin look slow.
 */
export async function* paced(
  answer: Answer,
  windowMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const chunks = answer.body[Symbol.asyncIterator]();
  let waitedMs = 0;
  let bytes = 0;
  try {
    for (;;) {
      const since = performance.now();
      const next = await chunks.next();
      if (next.done === true) return;
      waitedMs += performance.now() - since;
      bytes += next.value.length;
      if (waitedMs >= windowMs) {
        if (bytes < (waitedMs / 1000) * PACE_MIN) {
          throw new DocyardError("upstream_failed", `${answer.url.host} sends too slowly`);
        }
        waitedMs = 0;
        bytes = 0;
      }
      yield next.value;
    }
  } catch (error) {
    throw upstreamError(error, answer.url, signal);
  } finally {
    answer.abandon();
  }
}

export interface ResumeOptions {
  readonly ask: Ask;
  readonly pace: (answer: Answer) => AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal;
  readonly maxResumes: number;
  readonly delayMs: number;
}

/** The longest wait between two resumes. */
const RESUME_DELAY_MAX_MS = 10_000;

/**
 * All bytes of the first answer's body. When the connection is lost on the way and the origin gave a strong validator,
 * the rest is asked for with `Range` and `If-Range` (RFC 9110 section 13.1.5), so the halves are of one whole.
 */
export async function* resumed(first: Answer, options: ResumeOptions): AsyncGenerator<Uint8Array> {
  const { ask, pace, signal, maxResumes, delayMs } = options;
  let size = announcedSize(first);
  const validator = strongValidator(first);
  let answer = first;
  let received = 0;
  let resumes = 0;
  let triesInVain = 0;

  /** The answer that continues the body; throws what was lost when there is none to be had. */
  async function reopen(fault: unknown): Promise<Answer> {
    let lost = fault;
    for (;;) {
      if (!isLost(lost) || signal.aborted || validator === null || received === 0 || resumes >= maxResumes) {
        throw lost;
      }
      resumes += 1;
      try {
        await delay(Math.min(delayMs * 2 ** triesInVain, RESUME_DELAY_MAX_MS), undefined, { signal });
        const rest = await ask({ range: `bytes=${received}-`, "if-range": validator });
        size = checkContinuation(first, rest, received, size);
        return rest;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        triesInVain += 1;
        lost = error;
      }
    }
  }

  for (;;) {
    const before = received;
    try {
      for await (const chunk of pace(answer)) {
        received += chunk.length;
        yield chunk;
      }
      if (size === null || received === size) return;
      throw new DocyardError("upstream_failed", `${first.url.host} sent ${received} of ${size} bytes`);
    } catch (error) {
      triesInVain = received > before ? 0 : triesInVain + 1;
      answer = await reopen(error);
    }
  }
}

/** Whether this only cost the connection. */
function isLost(error: unknown): boolean {
  return isDocyardError(error, "upstream_failed") && !(error instanceof ChangedError);
}

/** The origin has another body now: no use resuming this one, every use starting again later. */
class ChangedError extends DocyardError {
  constructor(host: string) {
    super("upstream_failed", `${host} changed the file while it was being read`);
  }
}

/**
 * What `If-Range` may carry: a strong `ETag`, or a `Last-Modified` at least one second older than the answer (RFC 9110
 * section 8.8.2.2). Null when there is neither, or the origin says it serves no ranges.
 */
function strongValidator(answer: Answer): string | null {
  if (answer.header("accept-ranges")?.toLowerCase() === "none") return null;
  const etag = answer.header("etag");
  if (etag !== null) return /^"[\u0021\u0023-\u007e\u0080-\u00ff]*"$/.test(etag) ? etag : null;
  const modified = answer.header("last-modified");
  const age = Date.parse(answer.header("date") ?? "") - Date.parse(modified ?? "");
  return modified !== null && age >= 1000 ? modified : null;
}

/**
 * Throws unless this answer goes on with the first one's body. Returns the bytes of the whole: a range may end before
 * it, and where neither answer says how many there are, nobody could tell.
 */
function checkContinuation(first: Answer, answer: Answer, received: number, size: number | null): number {
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(answer.header("content-range") ?? "");
  const total = range?.[3] === undefined || range[3] === "*" ? null : Number(range[3]);
  const etag = answer.header("etag");
  const whole = size ?? total;
  const continues =
    answer.status === 206 &&
    Number(range?.[1] ?? -1) === received &&
    (total === null || total === whole) &&
    (etag === null || first.header("etag") === null || etag === first.header("etag")) &&
    contentCoding(answer) === contentCoding(first);
  if (continues && whole !== null) return whole;
  answer.abandon();
  const host = first.url.host;
  if (answer.status >= 500) {
    throw new DocyardError("upstream_failed", `${host} answered ${answer.status} when resumed`);
  }
  throw new ChangedError(host);
}

/** How a decoder is made, by the name of the content coding (RFC 9110 section 8.4.1). */
const DECODERS: Record<Coding, () => Transform> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
};

export type Coding = "gzip" | "x-gzip" | "deflate" | "br";

/**
 * The coding an origin applied although none was asked for, or null.
 * @throws DocyardError `policy_rejected` for codings that are not decoded here, and for stacked ones.
 */
export function contentCoding(answer: Answer): Coding | null {
  const coding = answer.header("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (coding === "identity") return null;
  if (Object.hasOwn(DECODERS, coding)) return coding as Coding;
  answer.abandon();
  throw new DocyardError(
    "policy_rejected",
    `${answer.url.host} sends a content coding that was not asked for`,
  );
}

/** Decoded bytes before the expansion is judged: small files may be as repetitive as they like. */
const BOMB_SIZE_MIN = 16 * 1024 * 1024;

/** Decoded bytes per coded byte. Text comes to 5 or 10, and gzip ends near 1000, which only a bomb reaches. */
const BOMB_RATIO_MAX = 100;

/** The decoded bytes; a body that expands beyond all reason is refused while it does. */
export async function* decoded(
  source: AsyncIterable<Uint8Array>,
  coding: Coding,
  url: URL,
): AsyncGenerator<Uint8Array> {
  let codedBytes = 0;
  let plainBytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      codedBytes += chunk.length;
      yield chunk;
    }
  }
  const decoder = DECODERS[coding]();
  // The outcome is read from the decoder; pipeline only carries errors and endings to it.
  pipeline(Readable.from(counted(), { objectMode: false }), decoder, () => undefined);
  try {
    for await (const chunk of decoder as AsyncIterable<Uint8Array>) {
      plainBytes += chunk.length;
      if (plainBytes > BOMB_SIZE_MIN && plainBytes > codedBytes * BOMB_RATIO_MAX) {
        throw new DocyardError("policy_rejected", `${url.host} sends a body that expands beyond reason`);
      }
      yield chunk;
    }
  } catch (error) {
    // No byte is no broken file: origins announce a coding for empty bodies too.
    if (codedBytes === 0 && isCodingError(error)) return;
    if (error instanceof DocyardError || !isCodingError(error)) throw error;
    throw new DocyardError("source_failed", `${url.host} sends a body that does not decode`, {
      cause: error,
    });
  } finally {
    decoder.destroy();
  }
}

function isCodingError(error: unknown): boolean {
  const code = codeOf(error);
  return code.startsWith("Z_") || code.startsWith("ERR_BROTLI") || code.startsWith("ERR__ERROR");
}

/** The chunks, until there are more bytes than allowed. */
export async function* limited(
  source: AsyncIterable<Uint8Array>,
  sizeMax: number,
  url: URL,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > sizeMax) {
      throw new DocyardError("too_large", `${url.host} sends more than the ${sizeMax} bytes allowed`);
    }
    yield chunk;
  }
}

/** The same chunks; runs `end` once when the source is exhausted, fails or is left, even before its first chunk. */
export function ending(source: AsyncGenerator<Uint8Array>, end: () => void): AsyncIterable<Uint8Array> {
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      try {
        const next = await source.next();
        if (next.done === true) end();
        return next;
      } catch (error) {
        end();
        throw error;
      }
    },
    // A generator that has not begun would end without running its `finally`: its connection is ended here.
    async return() {
      end();
      await source.return(undefined);
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

/** Faults that stay until somebody changes the origin, and their words. The rest is worth another try. */
const PERMANENT: Readonly<Record<string, string>> = {
  ENOTFOUND: "does not exist",
  CERT_HAS_EXPIRED: "has an expired certificate",
  CERT_NOT_YET_VALID: "has a certificate that does not verify",
  DEPTH_ZERO_SELF_SIGNED_CERT: "has a certificate that does not verify",
  SELF_SIGNED_CERT_IN_CHAIN: "has a certificate that does not verify",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "has a certificate that does not verify",
  UNABLE_TO_GET_ISSUER_CERT: "has a certificate that does not verify",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "has a certificate that does not verify",
  ERR_TLS_CERT_ALTNAME_INVALID: "has a certificate for another name",
  EPROTO: "does not speak TLS there",
  ERR_SSL_WRONG_VERSION_NUMBER: "does not speak TLS there",
  UND_ERR_HEADERS_OVERFLOW: "answers with too large a head",
};

const TRANSIENT: Readonly<Record<string, string>> = {
  EAI_AGAIN: "cannot be resolved now",
  ECONNREFUSED: "refuses connections",
  ECONNRESET: "closed the connection",
  UND_ERR_SOCKET: "closed the connection",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "closed the connection",
  ETIMEDOUT: "does not answer in time",
  UND_ERR_CONNECT_TIMEOUT: "does not answer in time",
  UND_ERR_HEADERS_TIMEOUT: "does not answer in time",
  UND_ERR_BODY_TIMEOUT: "stopped sending",
};

/**
 * The error to raise for whatever the client library threw: the signal's reason once it has fired, docyard's own errors
 * as they are, the rest as `source_failed` or `upstream_failed`, naming nothing but the host.
 */
export function upstreamError(error: unknown, url: URL, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof DocyardError) return error;
  const code = codeOf(error);
  const permanentWords = PERMANENT[code];
  const words = permanentWords ?? TRANSIENT[code] ?? "could not be read";
  const outcome = permanentWords === undefined ? "upstream_failed" : "source_failed";
  return new DocyardError(outcome, `${url.host} ${words}`, { cause: error });
}
