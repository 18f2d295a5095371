/**
 * The one error class of docyard and its closed list of codes.
 * Each face translates a code to its own status and envelope in one table; nothing here knows HTTP.
 */

/** What went wrong, in the words of gRPC's status codes where they fit. */
export type ErrorCode =
  /** Malformed body, filter, date or id. The message says what to fix. */
  | "invalid_argument"
  /** No credential, or a bad or expired one. */
  | "unauthenticated"
  /** Scope missing, client bound to another dock, signature wrong or expired. */
  | "permission_denied"
  /** No such artifact, blob or dock, or not visible to this principal. */
  | "not_found"
  /** An id, upload id or (dock, digest) is taken. Core turns the last into "here is the existing one". */
  | "already_exists"
  /** The event is not allowed in this status; nothing was changed. */
  | "failed_precondition"
  /** Over the size limit, declared or real. */
  | "too_large"
  /** Source, address or type refused by policy. */
  | "policy_rejected"
  /** The dock holds all that its quota allows. */
  | "quota_exceeded"
  /** The storage is full, or nearly: reads go on, what would write more is refused. */
  | "no_space"
  /** The server is read-only for now: reads go on. */
  | "read_only"
  /** Bytes differ from the declared size or digest. */
  | "integrity_mismatch"
  /** Stored bytes no longer match their digest: they are never handed out. */
  | "data_loss"
  /** Rate limit reached; `retryAfterMs` says when to come back. */
  | "resource_exhausted"
  /** A source that the client named cannot be had (404, refused, not what it claims); trying again will not help. */
  | "source_failed"
  /** A remote URL or store answered badly; trying again may help. */
  | "upstream_failed"
  /** Anything else. The message is generic, `cause` is for the log. */
  | "internal";

export interface DocyardErrorOptions {
  /** What really happened. Logged, never shown. */
  readonly cause?: unknown;
  /** One sentence per fault, for inputs with several. */
  readonly issues?: readonly string[];
  /** Milliseconds until the call may succeed; only with `resource_exhausted`, and of a source with `upstream_failed`. */
  readonly retryAfterMs?: number;
  /** Who was refused, where the face does not know them before the refusal. Logged, never shown. */
  readonly principalId?: string;
}

/**
 * `message` and `issues` are safe to show to the caller; `cause` and `principalId` are not.
 * Wrong calls by a programmer are `TypeError`s or assertions, never this.
 */
export class DocyardError extends Error {
  override readonly name = "DocyardError";
  readonly code: ErrorCode;
  readonly issues: readonly string[] | undefined;
  readonly retryAfterMs: number | undefined;
  readonly principalId: string | undefined;

  constructor(code: ErrorCode, message: string, options: DocyardErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.issues = options.issues;
    this.retryAfterMs = options.retryAfterMs;
    this.principalId = options.principalId;
  }
}

/** True for a `DocyardError`, with this code when one is named. */
export function isDocyardError(error: unknown, code?: ErrorCode): error is DocyardError {
  return error instanceof DocyardError && (code === undefined || error.code === code);
}
