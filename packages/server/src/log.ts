/**
 * The request log: one line per request, made of named fields only, so that nothing secret can get into it by accident.
 * Where the lines go is the logger's affair; what a fault looks like in a line is decided here.
 */

/** What docyard needs of a logger; pino's is one. Each line is an object of fields and a short fixed message. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const nothing = (): void => undefined;
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** Everything that is ever logged about a request: no URL, no query, no header, no body. */
export interface RequestLine {
  readonly requestId: string;
  readonly method: string;
  /** The route's pattern, never the path: paths hold signed URLs. */
  readonly route: string;
  readonly status: number;
  /** Until the handler was done; a body may still be on its way then. */
  readonly ms: number;
  /** The client's, as far as the host knows it. */
  remoteAddress?: string;
  /** Machine client, or whom a signed URL was made for. */
  principalId?: string;
  artifactId?: string;
  /** Body bytes. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** The client went away, or the transfer was cut. */
  aborted?: true;
}

/** Longest text of a fault that is kept, in characters: a line stays a line. */
const FAULT_TEXT_MAX = 2_000;
/** Causes of causes that are kept. */
const FAULT_DEPTH_MAX = 4;

export interface Fault {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: Fault;
}

/** An error as a line may show it: text without credentials, and none of its other properties. */
export function describeFault(error: unknown, depth: number = FAULT_DEPTH_MAX): Fault {
  if (!(error instanceof Error)) return { name: typeof error, message: redact(String(error)) };
  const { code } = error as { readonly code?: unknown };
  return {
    name: error.name,
    message: redact(error.message),
    ...(typeof code === "string" ? { code: redact(code) } : {}),
    ...(error.stack === undefined ? {} : { stack: redact(error.stack) }),
    ...(error.cause === undefined || depth <= 1 ? {} : { cause: describeFault(error.cause, depth - 1) }),
  };
}

/** In order: our credentials, HTTP credentials, bare JWTs, passwords in URLs, queries of URLs (signatures). */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/\b(dyt|dys|dk)_[\w.-]+/g, "$1_[redacted]"],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, "$1 [redacted]"],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, "[redacted]"],
  [/(\w+:\/\/)[^\s/@]*@/g, "$1[redacted]@"],
  [/\?[^\s"'<>]*=[^\s"'<>]*/g, "?[redacted]"],
];

/** Drivers write their own messages: this is the second fence behind not logging what we know to be secret. */
function redact(text: string): string {
  let clean = text.slice(0, FAULT_TEXT_MAX);
  for (const [pattern, replacement] of SECRETS) clean = clean.replaceAll(pattern, replacement);
  return clean;
}
