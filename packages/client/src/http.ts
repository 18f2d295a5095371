/**
 * One request and its answer over whatever `fetch` is at hand: JSON in and out, refusals and breaks as errors. Knows no
 * route.
 */

import { DocyardApiError, errorOf, networkError } from "./errors.ts";
import type { RetryOptions, RetryPolicy } from "./retry.ts";
import { isTransient, isUntouched, retrying, retryPolicy, until, within } from "./retry.ts";

/** What both clients and `sendBytes` have in common. */
export interface ConnectionOptions {
  /**
   * Answers requests; the second argument repeats the signal. Default: the runtime's `fetch`. An app in the same
   * process does as well: `(request) => app.fetch(request)`.
   */
  readonly fetch?:
    | ((request: Request, init?: { readonly signal?: AbortSignal }) => Promise<Response> | Response)
    | undefined;
  /** How failed calls are repeated. */
  readonly retry?: RetryOptions | undefined;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: (() => number) | undefined;
  /**
   * Milliseconds for the answer to an API call, and without a byte during a download, after which a connection counts
   * as broken. Uploads have no limit of their own: give them a signal. Default 60,000.
   */
  readonly timeoutMs?: number | undefined;
}

/** For calls that send nothing of size. */
export interface CallOptions {
  /** Ends the call, and any wait before another try, with its reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface Connection {
  readonly fetch: NonNullable<ConnectionOptions["fetch"]>;
  readonly policy: RetryPolicy;
  readonly now: () => number;
  readonly timeoutMs: number;
}

export function connection(options: ConnectionOptions): Connection {
  const { timeoutMs = 60_000 } = options;
  if (!(timeoutMs > 0)) throw new RangeError("timeoutMs must be more than 0 milliseconds");
  return {
    // Looked up at each call, and called as a function: browsers refuse it as a method.
    fetch: options.fetch ?? ((request, init) => fetch(request, init)),
    policy: retryPolicy(options.retry),
    now: options.now ?? Date.now,
    timeoutMs,
  };
}

/** `https://host/prefix` without a slash at its end. @throws TypeError */
export function checkBaseUrl(baseUrl: string): string {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username + url.password + url.search !== "") {
    throw new TypeError("baseUrl must be an http or https URL without credentials and query");
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/** An id as one segment of a path. @throws TypeError for what would name another route. */
export function segment(what: string, id: string): string {
  if (typeof id === "string" && /^[\w-]+$/.test(id)) return id;
  throw new TypeError(`${what} must consist of letters, digits, _ and -`);
}

/** What may stand in an `Authorization` header (RFC 6750 section 2.1). */
export function isToken(text: unknown): text is string {
  return typeof text === "string" && /^[\w.~+/=-]+$/.test(text);
}

export interface Exchange {
  /** For messages: method and path, or words where the URL is signed. */
  readonly what: string;
  readonly url: string;
  /** `duplex` is not in every runtime's types. */
  readonly init?: RequestInit & { readonly duplex?: "half" };
  readonly signal?: AbortSignal | undefined;
}

/** @throws DocyardApiError unless the answer's status is 2xx; the signal's reason if that aborts. */
export async function exchange(to: Connection, { what, url, init, signal }: Exchange): Promise<Response> {
  const aborting = signal === undefined ? {} : { signal };
  let response: Response;
  let text: string;
  try {
    signal?.throwIfAborted();
    const request = new Request(url, { ...init, ...aborting });
    response = await until(signal, Promise.resolve(to.fetch(request, aborting)));
    if (response.ok) return response;
    text = await until(signal, response.text()).catch(() => "");
  } catch (error) {
    signal?.throwIfAborted();
    throw networkError(what, error);
  }
  signal?.throwIfAborted();
  throw errorOf(what, response, text, to.now());
}

/** Work on the network within the connection's time limit; what breaks it, or the limit, is a network error. */
export async function inTime<T>(
  to: Connection,
  what: string,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await within(to.timeoutMs, signal, work);
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof DocyardApiError ? error : networkError(what, error);
  }
}

export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  /** Below the base URL. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly json?: object;
  readonly signal?: AbortSignal | undefined;
  /** True where doing it twice is not the same as once: then only what was refused untouched is tried again. */
  readonly isOnce?: boolean;
}

export interface Answer<T> {
  readonly status: number;
  /** Believed, not checked, beyond being an object; undefined of a 204. */
  readonly body: T;
}

/** One API call within the time limit. */
export async function call<T>(
  to: Connection,
  baseUrl: string,
  { method, path, query = {}, json, signal }: Call,
  bearer?: string,
): Promise<Answer<T>> {
  const what = `${method} ${path}`;
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value);
  const url = `${baseUrl}${path}${search.size > 0 ? `?${search}` : ""}`;
  const init: RequestInit = {
    method,
    headers: {
      Accept: "application/json",
      ...(json === undefined ? {} : { "Content-Type": "application/json" }),
      ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
    },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    // Nobody but the server itself is to see what is in a request.
    redirect: "manual",
  };
  const { status, text } = await inTime(to, what, signal, async (limited) => {
    const response = await exchange(to, { what, url, init, signal: limited });
    return { status: response.status, text: await response.text() };
  });
  if (status === 204) return { status, body: undefined as T };
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Refused below, like any other text that is no object.
  }
  if (typeof body !== "object" || body === null) {
    throw new DocyardApiError("protocol", `${what} was answered ${status} without a JSON object`, { status });
  }
  return { status, body: body as T };
}

/** The same, tried as often as the policy says and the call allows. */
export async function repeatedCall<T>(
  to: Connection,
  baseUrl: string,
  request: Call,
  bearer?: string,
): Promise<Answer<T>> {
  const { method, signal, isOnce = false } = request;
  /** Whether a try may have been heard although no answer came. */
  let isUnsure = false;
  return retrying(to.policy, { signal, isRetryable: isOnce ? isUntouched : isTransient }, async () => {
    try {
      return await call<T>(to, baseUrl, request, bearer);
    } catch (error) {
      if (!(error instanceof DocyardApiError)) throw error;
      // Gone by the try before, most likely.
      if (method === "DELETE" && isUnsure && error.status === 404)
        return { status: 204, body: undefined as T };
      isUnsure ||= isTransient(error) && !isUntouched(error);
      throw error;
    }
  });
}
