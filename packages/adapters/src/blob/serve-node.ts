/**
 * The same service on `node:http` objects: no web streams, and every download buffer is written in place and reused.
 * What is answered is decided in `serve.ts`; here is only how it travels, and what happens when a client goes away.
 */

import type { ServerResponse } from "node:http";
import { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { BlobHost, NodeExchange } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { ArrivedBody } from "./body.ts";
import type { HeaderLookup } from "./http.ts";
import { CORS_HEADERS, PREFLIGHT_HEADERS } from "./http.ts";
import type { Piece, ServiceContext } from "./serve.ts";
import { acceptUpload, isPut, openDownload, stopper } from "./serve.ts";
import type { GetTicket, PutTicket } from "./signed-url.ts";

/** After a refusal so much of the body is still read, so that the client gets to see the answer: 16 MiB … */
const LINGER_BYTES_MAX = 16 * 1024 * 1024;
/** … for so long, checked so often, in milliseconds. Then the connection is destroyed. */
const LINGER_MS_MAX = 2_000;
const LINGER_STEP_MS = 100;

export async function serveNode(
  context: ServiceContext,
  exchange: NodeExchange,
  host: BlobHost,
): Promise<void> {
  const incoming = exchange.incoming as IncomingMessage;
  const outgoing = exchange.outgoing as ServerResponse;
  // Errors of a connection are seen where it is used; without a listener they would end the process (lesson R-06).
  incoming.on("error", ignore);
  outgoing.on("error", ignore);
  try {
    if (incoming.method === "OPTIONS") {
      await finish(outgoing, 204, PREFLIGHT_HEADERS);
      return;
    }
    const ticket = await context.urls.redeem(incoming.method ?? "", incoming.url ?? "");
    if (isPut(ticket)) await upload(context, ticket, host, incoming, outgoing);
    else await download(context, ticket, host, incoming, outgoing);
  } catch (error) {
    if (isGone(outgoing)) return;
    if (outgoing.headersSent) {
      outgoing.destroy();
      return;
    }
    // So that a browser's script may read why; the host writes the rest of the answer.
    for (const [name, value] of Object.entries(CORS_HEADERS)) outgoing.setHeader(name, value);
    if (!incoming.complete) linger(incoming, outgoing);
    throw error;
  }
}

async function upload(
  context: ServiceContext,
  ticket: PutTicket,
  host: BlobHost,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const header = headersOf(incoming);
  // Node makes each chunk for whoever reads; what only looks like its requests may hand out what is in use.
  const memory = incoming instanceof IncomingMessage ? "given" : "shared";
  const take = async (body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> => {
    const headers = await acceptUpload(context, ticket, host, { header, memory, body, signal });
    await finish(outgoing, 200, headers);
  };
  const whole = arrived(incoming);
  if (whole !== null) {
    await take(whole, context.closing);
    return;
  }
  const stop = stopper(context);
  try {
    await take(stop.watch(incoming.iterator({ destroyOnReturn: false })), stop.signal);
  } catch (error) {
    if (!incoming.complete && incoming.errored !== null && !(error instanceof DocyardError)) {
      throw new DocyardError("invalid_argument", "The connection ended before the body did", {
        cause: error,
      });
    }
    throw error;
  } finally {
    stop.end();
  }
}

/**
 * A body that is here already, as small ones are that came with their head: it needs no deadline, and nothing that it
 * could miss. Null for all others.
 */
function arrived(incoming: IncomingMessage): ArrivedBody | null {
  const announced = incoming.headers["content-length"];
  if (announced === undefined || incoming.readableLength !== Number(announced)) return null;
  const bytes = incoming.read() as Uint8Array | null;
  incoming.resume();
  return new ArrivedBody(bytes ?? new Uint8Array());
}

async function download(
  context: ServiceContext,
  ticket: GetTicket,
  host: BlobHost,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort(new Error("the client went away"));
  outgoing.once("close", onClose);
  const onClosing = (): void => void outgoing.destroy();
  context.closing.addEventListener("abort", onClosing, { once: true });
  try {
    const { answer, pieces } = await openDownload(context, ticket, host, {
      header: headersOf(incoming),
      signal: gone.signal,
    });
    if (pieces === null) {
      await finish(outgoing, answer.status, answer.headers);
      return;
    }
    try {
      if (isGone(outgoing)) return;
      // The socket's own timer, because it sees a slow client take part of a piece; a write callback would not.
      outgoing.setTimeout(context.idleTimeoutMs, () => outgoing.destroy());
      outgoing.writeHead(answer.status, answer.headers);
      await send(outgoing, pieces, gone.signal);
    } finally {
      await pieces.return();
    }
  } finally {
    outgoing.off("close", onClose);
    context.closing.removeEventListener("abort", onClosing);
  }
}

/**
 * Writes every piece and ends. A piece is released in its own write callback, so the reader's ring bounds what is in
 * flight. Resolves when all is with the kernel.
 */
async function send(
  outgoing: ServerResponse,
  pieces: AsyncIterable<Piece>,
  gone: AbortSignal,
): Promise<void> {
  for await (const { bytes, release } of pieces) {
    gone.throwIfAborted();
    outgoing.write(bytes, release);
  }
  await ended(outgoing);
}

/** An answer without a body. */
async function finish(
  outgoing: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  if (isGone(outgoing)) return;
  outgoing.writeHead(status, headers);
  await ended(outgoing);
}

/** Ends the response; resolves when it is with the kernel or the client has gone. */
async function ended(outgoing: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    outgoing.once("close", resolve);
    outgoing.end(resolve);
  });
}

function headersOf({ headers }: IncomingMessage): HeaderLookup {
  return (name) => {
    const value = headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
}

/**
 * Reads on after a refusal, within bounds: closing a socket with unread data in it makes the kernel reset it, and the
 * client would see that instead of the answer. Whoever may send more than that is told that the connection ends.
 */
function linger(incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { socket } = incoming;
  const announced = incoming.headers["content-length"];
  if (announced === undefined || Number(announced) > LINGER_BYTES_MAX) {
    outgoing.setHeader("Connection", "close");
  }
  const start = socket.bytesRead;
  let waited = 0;
  const timer = setInterval(() => {
    waited += LINGER_STEP_MS;
    if (waited >= LINGER_MS_MAX || socket.bytesRead - start > LINGER_BYTES_MAX) socket.destroy();
  }, LINGER_STEP_MS);
  timer.unref();
  const closeNow = deferClose(socket);
  const stop = (): void => {
    clearInterval(timer);
    closeNow();
  };
  incoming.once("end", stop);
  incoming.once("close", stop);
  incoming.resume();
}

/**
 * Node closes a connection as soon as its last answer is written, whatever is still to be read. From now on that only
 * ends our side of it.
 * @returns what closes it after all, if Node has asked for it or once it does
 */
function deferClose(socket: Socket): () => void {
  let isAsked = false;
  socket.destroySoon = () => {
    isAsked = true;
    socket.end();
  };
  return () => {
    // The prototype's own again.
    Reflect.deleteProperty(socket, "destroySoon");
    if (isAsked) socket.destroySoon();
  };
}

function isGone(outgoing: ServerResponse): boolean {
  return outgoing.destroyed || outgoing.socket === null || outgoing.socket.destroyed;
}

function ignore(): void {}
