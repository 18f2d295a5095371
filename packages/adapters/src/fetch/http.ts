/**
 * `FetchUrl` over HTTP and HTTPS: reads public URLs, follows redirects itself, and dials no address that the policy of
 * ruling 12 refuses. The address rules are in `address.ts`; moving the body, with resuming and decoding, in `transfer.ts`.
 *
 * The check sits inside the lookup of the connection itself, so the address that was judged is the address that is
 * dialled, and a name that changes between two lookups gains nothing (lesson R-26). Proxy variables of the environment
 * are not read: a proxy would resolve the name again, behind the check.
 */

import type { FetchUrl, OpenOptions, SourceBody } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { lookup as systemLookup } from "node:dns/promises";
import type { LookupFunction } from "node:net";
import { isIP } from "node:net";
import { Agent, buildConnector } from "undici";
import { addressPolicy } from "./address.ts";
import { suggestedFilename } from "./filename.ts";
import type { Answer, Ask } from "./transfer.ts";
import {
  announcedSize,
  contentCoding,
  decoded,
  ending,
  limited,
  paced,
  resumed,
  upstreamError,
} from "./transfer.ts";

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** All addresses of a name, as the system resolver would give them. */
export type Resolver = (hostname: string) => Promise<readonly ResolvedAddress[]>;

/** Milliseconds each. */
export interface HttpFetchTimeouts {
  /** Name, connection and TLS handshake, per connection. Default 10 s. */
  readonly connect?: number;
  /** From the request to the head of the answer, per hop. Default 30 s. */
  readonly headers?: number;
  /** Between two pieces of the body, while docyard is ready for more. Default 30 s. */
  readonly idle?: number;
  /** Of waiting for the body, after which its average pace is judged (at least 1 KiB/s). Default 60 s. */
  readonly pace?: number;
  /** From `open` to the last byte, however often it redirects or resumes. Default 4 h: 5 GiB at 3 Mbit/s. */
  readonly total?: number;
}

export interface HttpFetchOptions {
  /** Networks in CIDR notation that may be read although they are not public, on any port. Default none. */
  readonly allow?: readonly string[];
  /** Ports of public addresses that may be read. Default 80 and 443. */
  readonly ports?: readonly number[];
  /** Redirects followed before the chain is refused. Default 5. */
  readonly maxRedirects?: number;
  /** How long each step may take. Default: each its own. */
  readonly timeouts?: HttpFetchTimeouts;
  /** Certificates to trust instead of the well-known ones, in PEM. Default: the well-known ones. */
  readonly ca?: string | readonly string[];
  /** Default: the system's (`getaddrinfo`, so the hosts file counts). */
  readonly resolver?: Resolver;
  /** How often one body may be resumed. Default 10; each try must have brought bytes or the next waits longer. */
  readonly maxResumes?: number;
  /** Wait before the first resume; doubles with each one that follows without progress. Default 500 ms. */
  readonly resumeDelayMs?: number;
}

/** Characters of a URL; what common servers and proxies take. */
const URL_LENGTH_MAX = 8192;

/** Bytes of an answer's head. */
const HEAD_SIZE_MAX = 64 * 1024;

/** Statuses whose `Location` is followed; 300 and 304 are not redirects for us. */
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Statuses that say "not now" (RFC 9110, RFC 8470, RFC 6585); so do all of 5xx. */
const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 425, 429]);

/** What an origin says about the bytes it is about to send. */
export interface HttpBody extends SourceBody {
  /** From `Content-Disposition`, else from the last URL's path; passes `filenameFault`, or null. */
  readonly filename: string | null;
}

export interface HttpFetch extends FetchUrl {
  open(url: string, options: OpenOptions): Promise<HttpBody>;
}

/**
 * Opens the driver. It holds no resource until the first `open`.
 * @throws TypeError if an entry of `allow` is no network.
 */
export function httpFetch(options: HttpFetchOptions = {}): HttpFetch {
  const { maxRedirects = 5, maxResumes = 10, resumeDelayMs = 500 } = options;
  const idleMs = options.timeouts?.idle ?? 30_000;
  const paceMs = options.timeouts?.pace ?? 60_000;
  const totalMs = options.timeouts?.total ?? 4 * 3_600_000;
  const { agent, admit } = guardedAgent(options, idleMs);
  const closing = new AbortController();

  /** One request, no redirect followed. */
  async function ask(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Answer> {
    admit(url);
    signal.throwIfAborted();
    try {
      const response = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: "GET",
        headers: { accept: "*/*", "accept-encoding": "identity", "user-agent": "docyard", ...headers },
        signal,
      });
      // A body that is given up on reports that as an error nobody else listens for.
      response.body.on("error", () => undefined);
      return {
        url,
        status: response.statusCode,
        header: (name) => [response.headers[name] ?? []].flat().join(", ") || null,
        body: response.body,
        abandon: () => void response.body.destroy(),
      };
    } catch (error) {
      // Of a head; a body that does not parse ended in the middle of a chunk, and that is a lost connection.
      const isNoHttp = error instanceof Error && error.name === "HTTPParserError";
      const fault = isNoHttp
        ? new DocyardError("source_failed", `${url.host} does not speak HTTP`, { cause: error })
        : error;
      throw upstreamError(fault, url, signal);
    }
  }

  /** One request and the redirects it leads to. */
  async function askFollowing(
    start: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer> {
    let url = start;
    for (let hops = 0; ; hops += 1) {
      const answer = await ask(url, headers, signal);
      const location = REDIRECTS.has(answer.status) ? answer.header("location") : null;
      if (location === null) return answer;
      answer.abandon();
      if (hops >= maxRedirects) {
        throw new DocyardError("policy_rejected", `${start.host} redirects more than ${maxRedirects} times`);
      }
      url = redirectTarget(location, url);
    }
  }

  async function open(text: string, { sizeMax, signal }: OpenOptions): Promise<HttpBody> {
    if (closing.signal.aborted) throw new Error("the fetch driver is closed");
    signal?.throwIfAborted();
    const url = parseUrl(text);
    const transfer = new AbortController();
    const total = setTimeout(() => {
      const message = `${url.host} took longer than ${Math.ceil(totalMs / 1000)} s in all`;
      transfer.abort(new DocyardError("upstream_failed", message));
    }, totalMs);
    total.unref();
    const signals = [transfer.signal, closing.signal, ...(signal === undefined ? [] : [signal])];
    const ends = AbortSignal.any(signals);
    const cancel = (): void => {
      clearTimeout(total);
      transfer.abort(new Error("the transfer was given up"));
    };
    try {
      const answer = await askFollowing(url, {}, ends);
      const size = checkAnswer(answer, sizeMax);
      const resume: Ask = (headers) => askFollowing(answer.url, headers, ends);
      const coding = contentCoding(answer);
      const pace = (one: Answer): AsyncIterable<Uint8Array> => paced(one, paceMs, ends);
      const raw = resumed(answer, { ask: resume, pace, signal: ends, maxResumes, delayMs: resumeDelayMs });
      const plain = coding === null ? raw : decoded(raw, coding, answer.url);
      return {
        size: coding === null ? size : null,
        contentType: mediaType(answer.header("content-type")),
        filename: suggestedFilename(answer.header("content-disposition"), answer.url),
        body: ending(limited(plain, sizeMax, answer.url), cancel),
      };
    } catch (error) {
      cancel();
      throw error;
    }
  }

  return {
    open,
    async close() {
      if (closing.signal.aborted) return;
      closing.abort(new Error("the fetch driver is closed"));
      await agent.destroy();
    },
  };
}

/** An undici agent that cannot connect to a refused address, and the checks that need no connection. */
function guardedAgent(
  options: HttpFetchOptions,
  idleMs: number,
): { agent: Agent; admit: (url: URL) => void } {
  const { allow = [], ports = [80, 443], resolver = systemResolver } = options;
  const policy = addressPolicy(allow);
  const onStandardPort = (address: string): boolean => policy.isPublic(address) || policy.isAllowed(address);
  const connectorFor = (accepts: (address: string) => boolean): buildConnector.connector =>
    buildConnector({
      lookup: checkedLookup(resolver, accepts),
      timeout: options.timeouts?.connect ?? 10_000,
      ...(options.ca === undefined ? {} : { ca: [options.ca].flat() }),
    });
  const onOtherPort = (address: string): boolean => policy.isAllowed(address);
  const standard = { accepts: onStandardPort, connect: connectorFor(onStandardPort) };
  const other = { accepts: onOtherPort, connect: connectorFor(onOtherPort) };

  const agent = new Agent({
    connect(target, callback) {
      const host = bareHost(target.hostname);
      const { accepts, connect } = ports.includes(portOf(target.protocol, target.port)) ? standard : other;
      // Node never calls `lookup` for a literal address, so those are judged here.
      if (isIP(host) !== 0 && !accepts(host)) callback(refusal(host), null);
      else connect(target, (...connected) => callback(...resetIsFailure(connected)));
    },
    headersTimeout: options.timeouts?.headers ?? 30_000,
    bodyTimeout: idleMs,
    maxHeaderSize: HEAD_SIZE_MAX,
    allowH2: false,
    pipelining: 1,
  });

  const admit = (url: URL): void => {
    if (url.protocol !== "http:" && url.protocol !== "https:") {
      throw new DocyardError("policy_rejected", `Only http and https URLs can be read, not ${url.protocol}`);
    }
    if (url.username !== "" || url.password !== "") {
      throw new DocyardError("policy_rejected", `The URL on ${url.host} must not hold credentials`);
    }
    const port = portOf(url.protocol, url.port);
    if (allow.length === 0 && !ports.includes(port)) {
      throw new DocyardError("policy_rejected", `Port ${port} of ${url.hostname} may not be read`);
    }
  };
  return { agent, admit };
}

/**
 * A reset is a lost connection, also where no length was announced. The vendor takes it for the regular end of such a
 * body, by its code; ours is the first listener, and gives it another one.
 */
function resetIsFailure(connected: Parameters<buildConnector.Callback>): typeof connected {
  connected[1]?.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNRESET") error.code = "UND_ERR_SOCKET";
  });
  return connected;
}

/** Every answer must be acceptable or the whole name is refused: a mixed answer is how rebinding begins. */
function checkedLookup(resolver: Resolver, accepts: (address: string) => boolean): LookupFunction {
  async function acceptable(hostname: string): Promise<ResolvedAddress[]> {
    const addresses = await resolver(hostname);
    if (addresses.length === 0) throw new DocyardError("source_failed", `${hostname} has no address`);
    if (!addresses.every(({ address }) => accepts(address))) throw refusal(hostname);
    return [...addresses];
  }
  const look = async (...[hostname, options, callback]: Parameters<LookupFunction>): Promise<void> => {
    let addresses: ResolvedAddress[];
    try {
      addresses = await acceptable(hostname);
    } catch (error) {
      callback(error as Error, []);
      return;
    }
    const first = addresses[0];
    if (options.all === true || first === undefined) callback(null, addresses);
    else callback(null, first.address, first.family);
  };
  return (hostname, options, callback) => void look(hostname, options, callback);
}

const systemResolver: Resolver = (hostname) => systemLookup(hostname, { all: true });

function refusal(host: string): DocyardError {
  return new DocyardError("policy_rejected", `${host} is not an address that may be read`);
}

function bareHost(hostname: string): string {
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

function portOf(protocol: string, port: string): number {
  if (port !== "") return Number(port);
  return protocol === "https:" ? 443 : 80;
}

function parseUrl(text: string): URL {
  if (text.length > URL_LENGTH_MAX) {
    throw new DocyardError("invalid_argument", `url must be at most ${URL_LENGTH_MAX} characters`);
  }
  const url = URL.parse(text);
  if (url === null) throw new DocyardError("invalid_argument", "url must be an absolute URL");
  return url;
}

/** Bytes beyond ASCII, which a header has no encoding for, go back as they came: that is what the origin meant. */
function redirectTarget(location: string, from: URL): URL {
  const ascii = location.replaceAll(/[\u0080-\u00ff]/g, (byte) => `%${byte.charCodeAt(0).toString(16)}`);
  const url = location.length > URL_LENGTH_MAX ? null : URL.parse(ascii, from.href);
  if (url === null) {
    throw new DocyardError("source_failed", `${from.host} redirects to something that is no URL`);
  }
  return url;
}

/** Accepts 200 within the size limit; resolves to the announced size. */
function checkAnswer(answer: Answer, sizeMax: number): number | null {
  const { status, url } = answer;
  if (status !== 200) {
    answer.abandon();
    const words = `${url.host} answered ${status}`;
    const permanent = status < 500 && !TRANSIENT_STATUSES.has(status);
    if (permanent) throw new DocyardError("source_failed", words);
    throw new DocyardError("upstream_failed", words, { retryAfterMs: retryAfter(answer) });
  }
  const size = announcedSize(answer);
  if (size !== null && size > sizeMax) {
    answer.abandon();
    throw new DocyardError("too_large", `${url.host} offers ${size} bytes, more than the ${sizeMax} allowed`);
  }
  return size;
}

/** Milliseconds that `Retry-After` asks for, in seconds or until a date (RFC 9110 section 10.2.3); 0 without. */
function retryAfter(answer: Answer): number {
  const header = answer.header("retry-after") ?? "";
  const waitMs = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isNaN(waitMs) ? 0 : Math.max(0, waitMs);
}

/** RFC 9110 type without parameters, or null when the header is no media type. */
function mediaType(header: string | null): string | null {
  const type = header?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  return /^[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}$/.test(type) ? type : null;
}
