/**
 * What the listener says to clients that do not get as far as the app: heads that HTTP's parser gives up on, that come
 * too slowly or name no host. Each gets a short answer in the server's envelope where one can still be sent.
 */

import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { type Logger, type Refusal, refusal } from "@docyard/server";

/** Why a head was given up, by Node's codes; everything else is 400. */
const HEAD_FAULTS: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_INVALID_URL: [400, "The request's target must be a path in ASCII, all else percent-encoded"],
  HPE_HEADER_OVERFLOW: [431, "The request's headers are too large"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "The chunk extensions of the body are too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "The request's head did not arrive in time"],
};
/** Milliseconds in which a client may still read the answer, although it has sent what nobody reads any more. */
const LINGER_MS = 1_000;

export type RefusalLog = Pick<Logger, "info" | "error">;

/** Answers all that Node would answer with an empty body, or none. `busyWith`: the responses a socket still waits for. */
export function refuseWhatIsNoRequest(
  server: Server,
  log: RefusalLog,
  busyWith: (socket: Socket) => Iterable<ServerResponse>,
): void {
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    // Nobody is there, or it has been said: a parser that has given up complains about each further piece.
    if (error.code === "ECONNRESET" || !socket.writable || !isHttp(error)) {
      if (!socket.writableEnded) socket.destroy();
      return;
    }
    // In the middle of an answer there is no place for another one.
    if ([...busyWith(socket)].some(({ headersSent }) => headersSent)) {
      socket.destroy();
      return;
    }
    const [status, message] = HEAD_FAULTS[error.code ?? ""] ?? [400, "This is not a request in HTTP/1.1"];
    const answer = refusal(status, message);
    note(log, answer, socket, error.code);
    sayGoodbye(socket, answer);
  });

  // Well-formed, and without a listener Node would hang up on it.
  server.on("connect", (incoming: IncomingMessage, socket: Socket) => {
    socket.on("error", () => socket.destroy());
    sayGoodbye(socket, refuse(log, incoming, 400, "CONNECT is for proxies, and this is none"));
  });

  server.on("checkExpectation", (incoming: IncomingMessage, outgoing: ServerResponse) => {
    send(outgoing, refuse(log, incoming, 417, "The only expectation known here is 100-continue"));
  });
}

/** The answer to a request that cannot be handed on, with a line in the log. */
export function refuse(log: RefusalLog, incoming: IncomingMessage, status: number, message: string): Refusal {
  const answer = refusal(status, message, incoming.url?.split("?", 1)[0]);
  note(log, answer, incoming.socket);
  return answer;
}

export function send(outgoing: ServerResponse, { status, headers, body }: Refusal): void {
  // Whether a body follows, and where it ends, is not for us to find out.
  outgoing
    .writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body), Connection: "close" })
    .end(body);
}

/** Where Node has no response object to write to. */
function sayGoodbye(socket: Socket, answer: Refusal): void {
  socket.end(onTheWire(answer));
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
}

/** Why, by Node's code; never what the client sent. */
function note(log: RefusalLog, { requestId, status }: Refusal, socket: Socket, code?: string): void {
  log.info({ requestId, status, code, remoteAddress: socket.remoteAddress }, "request refused");
}

/** Everything else is TLS's: a handshake that failed has no place for an answer in HTTP. */
function isHttp({ code = "" }: NodeJS.ErrnoException): boolean {
  return code.startsWith("HPE_") || code in HEAD_FAULTS;
}

function onTheWire({ status, headers, body }: Refusal): string {
  const lines = Object.entries({
    ...headers,
    Date: new Date().toUTCString(),
    "Content-Length": Buffer.byteLength(body),
    Connection: "close",
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`;
}
