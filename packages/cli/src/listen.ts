/**
 * An HTTP server on node:http or node:https for a fetch handler that may come later: bound before anything is opened, so
 * that a second server started by mistake touches nothing. Listens, and stops without cutting anyone off; routes nothing.
 */

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Server as SecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { getRequestListener, RequestError } from "@hono/node-server";
import { refusal } from "@docyard/server";
import { Failure, reasonOf } from "./failure.ts";
import { collectWhileReceiving } from "./memory.ts";
import { refuse, type RefusalLog, refuseWhatIsNoRequest, send } from "./refuse.ts";
import { contextOptions, type Pair } from "./tls.ts";

/** Handles one request; `env` carries node's own objects, for bodies that are better moved without web streams. */
export type Fetch = (
  request: Request,
  env: { readonly incoming: unknown; readonly outgoing: unknown },
) => Response | Promise<Response>;

/**
 * Milliseconds a client has for its TLS handshake, and then for its request line and headers: slow ones must not hold
 * sockets (lesson T-18).
 */
const HEADERS_TIMEOUT_MS = 15_000;
/** Milliseconds between two looks at who is over that. */
const HEADERS_LOOK_MS = 5_000;
/** Milliseconds a client has to take a whole answer; an upload or download is none of these. */
const ANSWER_TIMEOUT_MS = 300_000;
/** Seconds a browser insists on HTTPS after an answer: a year, which is what its makers ask for. */
const HSTS_MAX_AGE_S = 31_536_000;
/** How often connections that have become idle are closed while draining. */
const DRAIN_POLL_MS = 25;

export interface ListenOptions {
  /** Told of those who never become a request. */
  readonly log: RefusalLog;
  /** Serve HTTPS with it, and nothing else. */
  readonly pair?: Pair;
  /** Whether answers over TLS tell browsers to insist on it. Default: they do not. */
  readonly hsts?: boolean;
  /** Milliseconds for a request's head. Default 15 s. */
  readonly headersTimeoutMs?: number;
  /** Milliseconds for a client to take an answer. Default 5 min. */
  readonly answerTimeoutMs?: number;
}

export interface Listener {
  /** The port it really got. */
  readonly port: number;
  /** Handshakes from now on get this certificate; open connections keep theirs. @throws Error without TLS. */
  readonly useCertificate: (pair: Pair) => void;
  /**
   * Takes no new connections, lets requests under way finish, and closes what still runs after `timeoutMs`.
   * Resolves to the number of connections that were cut off.
   */
  stop(timeoutMs: number): Promise<number>;
}

/**
 * Listens at once; requests wait until `app` is there.
 * @throws Failure in words for an operator: port in use, address not ours, not allowed.
 */
export async function listen(
  host: string,
  port: number,
  app: Promise<Fetch>,
  options: ListenOptions,
): Promise<Listener> {
  const { server, useCertificate } = await createFor(requestListener(app, options.log), options);
  continueWhenRead(server);
  giveUpUntaken(server, options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS);
  collectWhileReceiving(server);
  const connections = trackConnections(server, options.pair !== undefined);
  refuseWhatIsNoRequest(server, options.log, connections.busyWith);
  const opened = once(server, "listening");
  server.listen({ host, port });
  try {
    await opened;
  } catch (error) {
    throw new Failure(`cannot listen on ${host}:${port}: ${listenFault(error, port)}`, { cause: error });
  }
  return {
    port: (server.address() as AddressInfo).port,
    useCertificate,
    stop: (timeoutMs) => drain(server, connections, timeoutMs),
  };
}

type RequestListener = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

/** HTTP/1.1 either way: over TLS, too, since the fast paths for bodies own their connection's socket. */
async function createFor(
  listener: RequestListener,
  { pair, hsts = false, headersTimeoutMs = HEADERS_TIMEOUT_MS }: ListenOptions,
): Promise<{ readonly server: Server; readonly useCertificate: (pair: Pair) => void }> {
  const options = {
    // A large upload takes as long as it takes; whoever moves bodies watches for idle ones. Setting this to 0 alone
    // would switch the limit for headers off as well.
    requestTimeout: 0,
    headersTimeout: headersTimeoutMs,
    connectionsCheckingInterval: Math.min(HEADERS_LOOK_MS, headersTimeoutMs),
    // Node's own refusal is empty; ours is in requestListener.
    requireHostHeader: false,
  };
  if (pair === undefined) {
    return {
      server: createServer(options, listener),
      useCertificate() {
        throw new Error("this server has no certificate to replace");
      },
    };
  }
  // Only now: as soon as it is loaded Node reads all root certificates, which takes a thread 20 ms.
  const { createServer: createSecureServer } = await import("node:https");
  const server: SecureServer = createSecureServer(
    { ...options, ...contextOptions(pair), handshakeTimeout: HEADERS_TIMEOUT_MS },
    listener,
  );
  if (hsts) {
    server.prependListener("request", (_, outgoing: ServerResponse) => {
      outgoing.setHeader("Strict-Transport-Security", `max-age=${HSTS_MAX_AGE_S}`);
    });
  }
  return { server, useCertificate: (next) => server.setSecureContext(contextOptions(next)) };
}

/** From node's request to the app's, or a refusal: nobody is sent to the app without a host that could be one. */
function requestListener(app: Promise<Fetch>, log: RefusalLog): RequestListener {
  const toApp = getRequestListener(async (request, env) => (await app)(request, env), {
    // For HTTP/1.0, which knows no Host. Which one it is makes no difference: one public URL decides (ruling 15).
    hostname: "localhost",
    errorHandler(error) {
      // To where the request is at hand.
      if (error instanceof RequestError) throw error;
      log.error({ error: reasonOf(error) }, "the app failed");
      const { status, headers, body } = refusal(500, "Internal server error");
      return new Response(body, { status, headers });
    },
  });
  return (incoming, outgoing) => {
    const fault = hostFault(incoming);
    if (fault !== null) {
      send(outgoing, refuse(log, incoming, 400, fault));
      return;
    }
    toApp(incoming, outgoing).catch(() => {
      send(outgoing, refuse(log, incoming, 400, "The request's target or its Host header is not valid"));
    });
  };
}

/** RFC 9112, 3.2: one Host, though HTTP/1.0 needs none. Node shows the first of several, not that there are more. */
function hostFault({ rawHeaders, httpVersionMinor }: IncomingMessage): string | null {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  if (hosts > 1) return "The Host header must be given once";
  return hosts === 0 && httpVersionMinor > 0 ? "The Host header is missing" : null;
}

/**
 * `Expect: 100-continue`: the client is told to go on when its body is first read and not before, so that what is
 * refused (413, 401, 409) is refused before gigabytes have travelled.
 */
function continueWhenRead(server: Server): void {
  server.on("checkContinue", (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { shouldKeepAlive } = outgoing;
    // Answered without reading, it is unclear whether the body still comes: that connection cannot be used again.
    outgoing.shouldKeepAlive = false;
    const read = incoming.read.bind(incoming);
    incoming.read = (size) => {
      incoming.read = read;
      if (!outgoing.headersSent) {
        outgoing.shouldKeepAlive = shouldKeepAlive;
        outgoing.writeContinue();
      }
      return read(size);
    };
    server.emit("request", incoming, outgoing);
  });
}

/**
 * An answer is in memory until its client has taken it: whoever takes nothing, or next to nothing, would keep it there.
 * Not by Node's own timer of a socket, which sees no progress within one large write over TLS.
 */
function giveUpUntaken(server: Server, timeoutMs: number): void {
  server.on("request", (_, outgoing: ServerResponse) => {
    outgoing.on("prefinish", () => {
      // What the kernel has taken is its affair. Downloads have a limit of their own, and may last as long as bytes move.
      if (!outgoing.socket?.writableLength || outgoing.listenerCount("timeout") > 0) return;
      const timer = setTimeout(() => outgoing.destroy(), timeoutMs);
      timer.unref();
      outgoing.once("close", () => clearTimeout(timer));
    });
  });
}

/** Knows which connections have no request under way: those that wait for a next one, and those that never had one. */
function trackConnections(
  server: Server,
  isSecure: boolean,
): {
  closeIdle(): void;
  readonly busyWith: (socket: Socket) => Iterable<ServerResponse>;
} {
  const open = new Map<Socket, Set<ServerResponse>>();
  /** By peer: over TLS a connection is two sockets, and the one that came in is idle until the other takes over. */
  const handshaking = new Map<string, Socket>();
  const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
  const track = (socket: Socket): void => {
    open.set(socket, new Set());
    socket.once("close", () => open.delete(socket));
  };
  server.on("connection", (socket) => {
    track(socket);
    if (!isSecure) return;
    const peer = peerOf(socket);
    handshaking.set(peer, socket);
    socket.once("close", () => {
      if (handshaking.get(peer) === socket) handshaking.delete(peer);
    });
  });
  server.on("secureConnection", (secure: Socket) => {
    const peer = peerOf(secure);
    const raw = handshaking.get(peer);
    if (raw !== undefined) open.delete(raw);
    handshaking.delete(peer);
    track(secure);
  });
  server.on("request", ({ socket }: IncomingMessage, outgoing: ServerResponse) => {
    const requests = open.get(socket);
    requests?.add(outgoing);
    outgoing.on("close", () => requests?.delete(outgoing));
  });
  return {
    closeIdle() {
      for (const [socket, requests] of open) if (requests.size === 0) socket.destroySoon();
    },
    busyWith: (socket) => open.get(socket) ?? [],
  };
}

async function drain(
  server: Server,
  connections: ReturnType<typeof trackConnections>,
  timeoutMs: number,
): Promise<number> {
  const closed = once(server, "close");
  server.close();
  // Answers that begin from now on tell their client that this connection ends.
  server.prependListener("request", (_, outgoing: ServerResponse) => {
    outgoing.shouldKeepAlive = false;
  });
  const sweep = setInterval(() => connections.closeIdle(), DRAIN_POLL_MS);
  let cutOff = 0;
  const deadline = setTimeout(() => {
    server.getConnections((_, count) => {
      cutOff = count;
      server.closeAllConnections();
    });
  }, timeoutMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(deadline);
  return cutOff;
}

function listenFault(error: unknown, port: number): string {
  const code = error instanceof Error && "code" in error ? error.code : null;
  switch (code) {
    case "EADDRINUSE":
      return "the port is in use (choose another with --port, or 0 for any)";
    case "EACCES":
      return port < 1024 ? "ports below 1024 need special rights" : "permission denied";
    case "EADDRNOTAVAIL":
      return "this machine has no such address (see --host)";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "the host name is unknown (see --host)";
    default:
      return reasonOf(error);
  }
}
