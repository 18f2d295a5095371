/**
 * The one error of this package, and how answers and broken connections become it. Whether something is tried again is
 * `retry.ts`'s to say.
 */

/** What went wrong, as a word to switch on. The first eight stand for answers, the others for what the client saw. */
export type DocyardErrorCode =
  /** 400: the request cannot be right; `issues` says each fault. */
  | "invalid_argument"
  /** 401: credentials, token or API key are not accepted. */
  | "unauthenticated"
  /** 403: scope or dock not granted, or a signed URL that has expired. */
  | "permission_denied"
  /** 404. */
  | "not_found"
  /** 409: too large, over a quota, nothing uploaded yet, or the upload has failed. */
  | "conflict"
  /** 413 or 422: bytes that are too many, or not the declared ones. */
  | "unprocessable"
  /** 429: wait `retryAfterMs`. */
  | "rate_limited"
  /** Any other status. */
  | "unavailable"
  /** No answer: refused, broken, or not within the time given; `cause` says more. */
  | "network"
  /** The time given to `complete` or `wait` is over; the server goes on working. */
  | "timeout"
  /** Bytes do not have the SHA-256 that they should. */
  | "integrity_mismatch"
  /** The server could not make the artifact; the message is its `errorMessage`. */
  | "upload_failed"
  /** The artifact has no bytes to download yet. */
  | "not_completed"
  /**
   * An answer that no docyard gives: `baseUrl` leads elsewhere, something in between rewrites, or the runtime cannot
   * send streams and has sent something else.
   */
  | "protocol";

/** What a `DocyardApiError` is made of. */
export interface DocyardApiErrorInit {
  readonly status?: number | undefined;
  readonly issues?: readonly string[] | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/**
 * Every failure of this package but two: a wrong call is a `TypeError` or `RangeError`, an abort is the signal's own
 * reason. Messages and causes hold no secret, token or signed URL.
 */
export class DocyardApiError extends Error {
  override readonly name = "DocyardApiError";
  /** See `DocyardErrorCode`. */
  readonly code: DocyardErrorCode;
  /** HTTP status of the answer; 0 where there was none. */
  readonly status: number;
  /** Every fault of an invalid request, where the server names more than one sentence. */
  readonly issues: readonly string[] | undefined;
  /** How long the server asks to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The server's name for the request: its operator finds it in the log. */
  readonly requestId: string | undefined;

  constructor(code: DocyardErrorCode, message: string, init: DocyardApiErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = code;
    this.status = init.status ?? 0;
    this.issues = init.issues;
    this.retryAfterMs = init.retryAfterMs;
    this.requestId = init.requestId;
  }
}

const CODES: Readonly<Record<number, DocyardErrorCode>> = {
  400: "invalid_argument",
  401: "unauthenticated",
  403: "permission_denied",
  404: "not_found",
  409: "conflict",
  413: "unprocessable",
  422: "unprocessable",
  429: "rate_limited",
};

/** Longest text of an error's body that is looked at, in characters: ours have a few hundred. */
const ERROR_TEXT_MAX = 65_536;

/** A refusal as an error: either envelope's words if there is one, else what was asked and the status. */
export function errorOf(what: string, response: Response, text: string, now: number): DocyardApiError {
  const { status, headers } = response;
  const said = sayingOf(text.slice(0, ERROR_TEXT_MAX));
  return new DocyardApiError(
    CODES[status] ?? "unavailable",
    said.message ?? `${what} was answered ${status}`,
    {
      status,
      issues: said.issues,
      retryAfterMs: retryAfter(headers, now),
      requestId: headers.get("x-request-id") ?? undefined,
    },
  );
}

/** Both envelopes hold `message`; the machine face's may be a list. Whatever else answered has nothing to say here. */
function sayingOf(text: string): {
  readonly message?: string;
  readonly issues?: readonly string[];
} {
  let message: unknown;
  try {
    ({ message } = JSON.parse(text) as { readonly message?: unknown });
  } catch {
    return {}; // A proxy's page, or S3's XML, which may repeat what was signed.
  }
  if (typeof message === "string") return { message: scrub(message) };
  if (!Array.isArray(message)) return {};
  const issues = message.filter((issue) => typeof issue === "string").map(scrub);
  return { message: issues.join("; "), issues };
}

/**
 * Milliseconds of a `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3). A date is read against the
 * answer's own `Date`, so that a wrong clock here does not count.
 */
function retryAfter(headers: Headers, now: number): number | undefined {
  const value = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+$/.test(value)) return Number(value) * 1_000;
  const at = Date.parse(value);
  if (Number.isNaN(at)) return undefined;
  const sent = Date.parse(headers.get("date") ?? "");
  return Math.max(0, at - (Number.isNaN(sent) ? now : sent));
}

export function networkError(what: string, error: unknown): DocyardApiError {
  return new DocyardApiError("network", `No answer to ${what}`, { cause: scrubbed(error) });
}

/** Queries of URLs, where signatures are, and everything that looks like one of docyard's credentials. */
function scrub(text: string): string {
  return text
    .replace(/(\bhttps?:\/\/[^\s?#"'<>]*)\?[^\s"'<>)]*/gi, "$1?…")
    .replace(/\b(dy[st]|dk)_[\w.~+/=-]+/g, "$1_…");
}

/** Some runtimes name the whole URL in their errors. Those are copied without it; all others stay what they are. */
function scrubbed(error: unknown): unknown {
  // Not `instanceof`: a runtime's own errors may come from another realm.
  const { name, message, cause } = (error ?? {}) as Partial<Error>;
  if (typeof message !== "string") return new Error(scrub(String(error)));
  const safeCause = cause === undefined ? undefined : scrubbed(cause);
  if (scrub(message) === message && safeCause === cause) return error;
  const copy = new Error(scrub(message), safeCause === undefined ? undefined : { cause: safeCause });
  if (name !== undefined) copy.name = name;
  return copy;
}
