/**
 * From an error to an answer: status, headers and the envelope of the face whose path it is, and the log line for what
 * nobody foresaw. The words and the table of a face are its own (`*-wire.ts`).
 */

import type { ErrorCode } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import type { AppContext } from "./exchange.ts";
import { CLIENT_CLOSED, replyJson } from "./exchange.ts";
import type { Logger } from "./log.ts";
import { describeFault } from "./log.ts";

/** How one public API words its errors. */
export interface ErrorFace {
  /** Whether paths like this one are this face's, also where it has no route for them. */
  owns(path: string): boolean;
  readonly statusOf: Readonly<Record<ErrorCode, number>>;
  envelope(status: number, message: string, issues?: readonly string[]): object;
}

/** A fault that only HTTP knows, and no use case: wrong method, unknown route, body too large. */
export class HttpFault extends Error {
  override readonly name = "HttpFault";
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** The handler for what is left of a path when its own methods have had their turn. */
export function refuseMethod(allow: string): () => never {
  return () => {
    throw new HttpFault(405, `Method not allowed here: use ${allow}`, { Allow: allow });
  };
}

/**
 * The answer to whatever a handler threw. What is not a `DocyardError` or `HttpFault` is logged and not shown.
 * @param headers Of the answer, beside its own.
 */
export function answerFault(
  c: AppContext,
  face: ErrorFace,
  error: unknown,
  log: Logger,
  headers: Readonly<Record<string, string>> = {},
): Response {
  if (error instanceof HttpFault) {
    return replyJson(c, face.envelope(error.status, error.message), {
      status: error.status,
      headers: { ...headers, ...error.headers },
    });
  }
  if (!isDocyardError(error) && isClientGone(c)) {
    c.get("exchange").aborted = true;
    return replyJson(c, face.envelope(CLIENT_CLOSED, "The client closed the connection"), {
      status: CLIENT_CLOSED,
      headers,
    });
  }
  const known = isDocyardError(error)
    ? error
    : new DocyardError("internal", "Internal server error", { cause: error });
  // Whoever is over a limit is to be found in the log, though no face has let them in yet.
  c.get("exchange").principalId ??= known.principalId ?? null;
  const status = face.statusOf[known.code];
  if (status >= 500) {
    log.error(
      { requestId: c.get("exchange").id, code: known.code, error: describeFault(known.cause ?? known) },
      "request failed",
    );
  }
  return replyJson(c, face.envelope(status, known.message, known.issues), {
    status,
    headers: { ...headers, ...faultHeaders(c, status, known) },
  });
}

function faultHeaders(c: AppContext, status: number, error: DocyardError): Record<string, string> {
  const { challenge } = c.get("exchange");
  return {
    ...((status === 401 || status === 403) && challenge !== null ? { "WWW-Authenticate": challenge } : {}),
    // Whole seconds, rounded up: a client that obeys is never refused again (contract 39).
    ...(error.retryAfterMs === undefined
      ? {}
      : { "Retry-After": String(Math.max(1, Math.ceil(error.retryAfterMs / 1_000))) }),
  };
}

function isClientGone(c: AppContext): boolean {
  const { incoming } = c.env ?? {};
  if (
    typeof incoming === "object" &&
    incoming !== null &&
    "destroyed" in incoming &&
    "complete" in incoming
  ) {
    if (incoming.destroyed === true && incoming.complete !== true) return true;
  }
  return c.req.raw.signal.aborted;
}
