/**
 * One request and its answer as the server's own parts see it: the facts that the log, the metrics and the envelope
 * share, and the one function that makes responses. Which routes exist is left to the faces.
 */

import type { Context } from "hono";

/** What is known about a request; filled in as it is handled. */
export interface Exchange {
  readonly id: string;
  principalId: string | null;
  artifactId: string | null;
  /** Body bytes. */
  bytesIn: number;
  bytesOut: number;
  /** The `WWW-Authenticate` that a 401 or 403 of this route carries, as far as the request has come. */
  challenge: string | null;
  /** Set when something else than Hono wrote the response. */
  status: number | null;
  aborted: boolean;
}

/** Node's own objects, there when the host is `@hono/node-server`. */
export interface HostBindings {
  readonly incoming?: unknown;
  readonly outgoing?: unknown;
}

/** Hono's generics for every route of this server. */
export interface AppEnv {
  Bindings: HostBindings;
  Variables: { exchange: Exchange };
}

export type AppContext = Context<AppEnv>;

/**
 * On every response. An API's answers are data: nothing may be sniffed, framed or made a referrer of, since many hold
 * signed URLs. A new object each time, for the caller to add to.
 */
export function commonHeaders(id: string): Record<string, string> {
  return {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Request-Id": id,
  };
}

/** Safe in a header and in a line of a log. What looks like one of our credentials is no id. */
const REQUEST_ID = /^(?!dy[ts]_|dk_)[\w.:@+=-]{1,128}$/;

/** Ids made at once: one made in the middle of a request costs several times as much. */
const IDS_AHEAD = 64;
const idsAhead: string[] = [];

/** The client's request id where it is well-formed, else a new one. */
export function requestId(presented: string | undefined): string {
  if (presented !== undefined && REQUEST_ID.test(presented)) return presented;
  if (idsAhead.length === 0) for (let i = 0; i < IDS_AHEAD; i++) idsAhead.push(crypto.randomUUID());
  return idsAhead.pop()!;
}

/** nginx's number for "the client went away": only the log and the metrics ever see it. */
export const CLIENT_CLOSED = 499;

const encoder = new TextEncoder();
/**
 * Characters up to which a body is handed on as text, which Node sends together with the head, in one piece. Of longer
 * ones the bytes are: Node would make room for three bytes a character to write them.
 */
const TEXT_LENGTH_MAX = 4_096;
/** Where short texts are encoded to know their length: room of its own for each would cost more than encoding it. */
const scratch = new Uint8Array(3 * TEXT_LENGTH_MAX);

export interface ReplyOptions {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * A JSON answer with all headers it needs. Made in one piece from a plain object: setting headers one by one, or after
 * the response exists, costs more than the rest of a request.
 */
export function replyJson(c: AppContext, body: unknown, options: ReplyOptions = {}): Response {
  return replyText(c, JSON.stringify(body), "application/json; charset=utf-8", options);
}

export function replyText(
  c: AppContext,
  text: string,
  contentType: string,
  { status = 200, headers }: ReplyOptions = {},
): Response {
  const exchange = c.get("exchange");
  const body = text.length <= TEXT_LENGTH_MAX ? text : encoder.encode(text);
  exchange.bytesOut = typeof body === "string" ? encoder.encodeInto(text, scratch).written : body.length;
  const all = commonHeaders(exchange.id);
  all["Content-Type"] = contentType;
  all["Cache-Control"] = "no-store";
  return new Response(body, { status, headers: headers === undefined ? all : Object.assign(all, headers) });
}

/** An answer without a body. */
export function replyEmpty(c: AppContext): Response {
  return new Response(null, {
    status: 204,
    headers: commonHeaders(c.get("exchange").id),
  });
}
