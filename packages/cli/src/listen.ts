/**
 * An HTTP server on node:http for a fetch handler that may come later: bound before anything is opened, so that a
 * second server started by mistake touches nothing. Listens, and stops without cutting anyone off; routes nothing.
 */

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { Failure, reasonOf } from "./failure.ts";
import { collectWhileReceiving } from "./memory.ts";

/** Handles one request; `env` carries node's own objects, for bodies that are better moved without web streams. */
export type Fetch = (
  request: Request,
  env: { readonly incoming: unknown; readonly outgoing: unknown },
) => Response | Promise<Response>;

/** Milliseconds a client has for its request line and headers: slow ones must not hold sockets (lesson T-18). */
const HEADERS_TIMEOUT_MS = 15_000;
/** How often connections that have become idle are closed while draining. */
const DRAIN_POLL_MS = 25;

export interface Listener {
  /** The port it really got. */
  readonly port: number;
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
export async function listen(host: string, port: number, app: Promise<Fetch>): Promise<Listener> {
  const server = createAdaptorServer({
    fetch: async (request, env) => (await app)(request, env),
    createServer,
    serverOptions: {
      // A large upload takes as long as it takes; whoever moves bodies watches for idle ones. Setting this to 0 alone
      // would switch the limit for headers off as well.
      requestTimeout: 0,
      headersTimeout: HEADERS_TIMEOUT_MS,
    },
  }) as Server;
  continueWhenRead(server);
  collectWhileReceiving(server);
  const connections = trackConnections(server);
  const opened = once(server, "listening");
  server.listen({ host, port });
  try {
    await opened;
  } catch (error) {
    throw new Failure(`cannot listen on ${host}:${port}: ${listenFault(error, port)}`, { cause: error });
  }
  return {
    port: (server.address() as AddressInfo).port,
    stop: (timeoutMs) => drain(server, connections, timeoutMs),
  };
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

/** Knows which connections have no request under way: those that wait for a next one, and those that never had one. */
function trackConnections(server: Server): { closeIdle(): void } {
  const open = new Map<Socket, number>();
  server.on("connection", (socket) => {
    open.set(socket, 0);
    socket.once("close", () => open.delete(socket));
  });
  server.on("request", ({ socket }: IncomingMessage, outgoing: ServerResponse) => {
    const count = (change: number): void => {
      const requests = open.get(socket);
      if (requests !== undefined) open.set(socket, requests + change);
    };
    count(1);
    outgoing.once("close", () => count(-1));
  });
  return {
    closeIdle() {
      for (const [socket, requests] of open) if (requests === 0) socket.destroySoon();
    },
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
