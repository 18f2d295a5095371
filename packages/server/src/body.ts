/**
 * Request bodies: bounded reading, strict UTF-8, strict JSON. What a body must hold is left to the wire files.
 */

import { DocyardError, parseJson as parsed } from "@docyard/core";
import type { AppContext } from "./exchange.ts";
import { HttpFault } from "./fault.ts";
import { inTime } from "./in-time.ts";
import { nodePair } from "./node-pair.ts";

/** Bytes of an API request's body. The largest legitimate one, a create, holds 64 KiB of metadata. */
export const BODY_BYTES_MAX: number = 1024 * 1024;
/** How long a client may take to send it: 30 s, so that slow ones do not hold sockets (lesson T-18). */
export const BODY_TIMEOUT_MS = 30_000;
/** Nesting of a body: metadata may have 32 levels below the two of its request. */
export const BODY_DEPTH_MAX = 64;

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * The body as text; bytes that are not UTF-8 are refused, a byte order mark is dropped.
 * @throws HttpFault 413, without having read on; DocyardError `invalid_argument`.
 */
export async function readText(c: AppContext, bytesMax: number): Promise<string> {
  const announced = c.req.header("content-length");
  const length = announced === undefined ? null : Number(announced);
  if (length !== null && length > bytesMax) throw tooLarge(bytesMax);
  const bytes = arrived(c, length) ?? (await readBytes(c.req.raw, length, bytesMax));
  c.get("exchange").bytesIn = bytes.length;
  try {
    return strictUtf8.decode(bytes);
  } catch {
    throw new DocyardError("invalid_argument", "Request body must be UTF-8 text");
  }
}

/**
 * A body that is here already, as small ones are that came with their head: to wait for it by listeners, promises and a
 * deadline would take a tenth of a request. Null for all others.
 */
function arrived(c: AppContext, length: number | null): Uint8Array | null {
  const incoming = nodePair(c)?.incoming;
  if (incoming === undefined || incoming.readableLength !== length || incoming.readableEncoding !== null) {
    return null;
  }
  const bytes = incoming.read() ?? new Uint8Array();
  incoming.resume();
  return bytes;
}

async function readBytes(request: Request, length: number | null, bytesMax: number): Promise<Uint8Array> {
  try {
    // An announced length is enforced by the host's parser, so the whole may be taken at once.
    const body = length === null ? readStream(request, bytesMax) : readWhole(request);
    const bytes = await inTime(body, BODY_TIMEOUT_MS, tooLate);
    if (bytes.length > bytesMax) throw tooLarge(bytesMax);
    return bytes;
  } catch (error) {
    if (error instanceof HttpFault) throw error;
    throw new DocyardError("invalid_argument", "Request body ended early or could not be read", {
      cause: error,
    });
  }
}

async function readWhole(request: Request): Promise<Uint8Array> {
  return new Uint8Array(await request.arrayBuffer());
}

/** What is read after the deadline is thrown away by the host, which closes the connection. */
function tooLate(): HttpFault {
  const seconds = BODY_TIMEOUT_MS / 1_000;
  return new HttpFault(408, `Request body did not arrive within ${seconds} seconds`, { Connection: "close" });
}

async function readStream(request: Request, bytesMax: number): Promise<Uint8Array> {
  const reader = request.body?.getReader();
  if (reader === undefined) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.length;
    if (size > bytesMax) {
      // Not awaited: a source that never ends must not hold the answer back.
      void reader.cancel().catch(() => undefined);
      // The host closes the connection then, and a client that was not told would send its next request into it.
      throw tooLarge(bytesMax, { Connection: "close" });
    }
    chunks.push(next.value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

function tooLarge(bytesMax: number, headers: Readonly<Record<string, string>> = {}): HttpFault {
  return new HttpFault(413, `Request body must be at most ${bytesMax} bytes`, headers);
}

/**
 * JSON text as a value, whatever the content type said (contract 13).
 * @throws DocyardError `invalid_argument`: empty, malformed, nested too deep, or a key given twice.
 */
export function parseJson(text: string): unknown {
  if (text.trim() === "") {
    throw new DocyardError("invalid_argument", "Request body is empty: send a JSON object");
  }
  let value: unknown;
  try {
    value = parsed(text);
  } catch (error) {
    // Only the place is taken from the parser's message, which quotes the text: it may hold a secret.
    const place = error instanceof Error ? /at position \d+/.exec(error.message)?.[0] : undefined;
    throw new DocyardError(
      "invalid_argument",
      `Request body is not valid JSON${place === undefined ? "" : ` (${place})`}`,
    );
  }
  const fault = structureFault(text);
  if (fault !== null) throw new DocyardError("invalid_argument", `Request body ${fault}`);
  return value;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * What `JSON.parse` lets pass without a word: a key given twice (which one did the client mean?) and endless nesting.
 * The text must be valid JSON; linear in its length, without recursion.
 */
export function structureFault(text: string): string | null {
  /** Keys of each open object; null for an open array. */
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case OPEN_OBJECT:
        if (open.push(new Set()) > BODY_DEPTH_MAX) return DEPTH_FAULT;
        break;
      case OPEN_ARRAY:
        if (open.push(null) > BODY_DEPTH_MAX) return DEPTH_FAULT;
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop();
        break;
      case QUOTE: {
        const end = stringEnd(text, at);
        const keys = open.at(-1);
        if (keys != null && isKey(text, at)) {
          const key = keyAt(text, at, end);
          if (keys.has(key)) return `gives the key ${JSON.stringify(key.slice(0, 80))} twice`;
          keys.add(key);
        }
        at = end;
        break;
      }
      default:
    }
  }
  return null;
}

const DEPTH_FAULT = `must not be nested deeper than ${BODY_DEPTH_MAX}`;

/** The key between two quotes: its own text, but for escapes. */
function keyAt(text: string, start: number, end: number): string {
  const raw = text.slice(start + 1, end);
  return raw.includes("\\") ? (JSON.parse(`"${raw}"`) as string) : raw;
}

/** Index of the quote that closes the string which opens at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  for (; text.charCodeAt(at) !== QUOTE; at++) {
    if (text.charCodeAt(at) === BACKSLASH) at++;
  }
  return at;
}

/** In an object a string is a key unless a colon comes before it: looks back over white space only. */
function isKey(text: string, start: number): boolean {
  for (let at = start - 1; at >= 0; at--) {
    const code = text.charCodeAt(at);
    if (code === COLON) return false;
    if (code === COMMA || code === OPEN_OBJECT) return true;
  }
  return false;
}
