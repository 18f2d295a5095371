/**
 * Mounts a blob store that redeems its own signed URLs, on web objects or, faster, on Node's. Signatures, ranges and
 * verification are the store's; here are headers, and the figures for log and metrics.
 */

import type { BlobHost, BlobService } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { Hono } from "hono";
import type { AppContext, AppEnv, Exchange } from "./exchange.ts";
import { CLIENT_CLOSED, commonHeaders } from "./exchange.ts";
import { answerFault } from "./fault.ts";
import type { Logger } from "./log.ts";
import { describeFault } from "./log.ts";
import { machineErrors } from "./machine.ts";
import type { Metrics } from "./metrics.ts";
import { bodyFollows, nodePair, type NodePair } from "./node-pair.ts";

/** Any page may use a signed URL, so its script may read why one is refused, too, and when to come again. */
const REFUSAL_HEADERS: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
};

export interface BlobMountOptions {
  readonly serve: BlobService;
  readonly host: BlobHost;
  readonly metrics: Metrics;
  readonly log: Logger;
}

export function mountBlobs(app: Hono<AppEnv>, { serve, host, metrics, log }: BlobMountOptions): void {
  /** The host as the store sees it during one request: what it is asked is noted on the way. */
  const noting = (exchange: Exchange): BlobHost => ({
    admit(grant, bytes) {
      exchange.artifactId = grant.artifactId;
      exchange.principalId = grant.principalId;
      return host.admit(grant, bytes);
    },
    async corrupt(grant, reason) {
      metrics.corruption();
      log.error({ requestId: exchange.id, artifactId: grant.artifactId, reason }, "stored bytes are corrupt");
      await host.corrupt(grant, reason);
    },
  });

  app.all(`${serve.path}*`, async (c) => {
    const exchange = c.get("exchange");
    const pair = serve.node === undefined ? null : nodePair(c);
    if (serve.node === undefined || pair === null) {
      try {
        checkUnread(c);
        return await serveWeb(c, exchange, serve, noting(exchange));
      } catch (error) {
        return answerFault(c, machineErrors, error, log, REFUSAL_HEADERS);
      }
    }
    const { incoming, outgoing } = pair;
    const { socket } = incoming;
    const start = { read: socket.bytesRead, written: socket.bytesWritten };
    // Where the store does not know better: it knows about sandboxing of contents.
    for (const [name, value] of Object.entries(commonHeaders(exchange.id))) outgoing.setHeader(name, value);
    try {
      await serve.node(pair, noting(exchange));
    } catch (error) {
      // After the first byte there is nothing left to say to the client; the store has cut the connection.
      if (!outgoing.headersSent) {
        for (const [name, value] of Object.entries(REFUSAL_HEADERS)) outgoing.setHeader(name, value);
        throw error;
      }
      log.warn({ requestId: exchange.id, error: describeFault(error) }, "transfer cut");
    } finally {
      // The socket's own counts, where the body's are not known: they include the heads, and what the kernel still held
      // when a transfer was cut.
      const announced = Number(incoming.headers["content-length"] ?? Number.NaN);
      // What came with its head may have been taken before the parser says that it was all.
      const isTaken = outgoing.headersSent && outgoing.statusCode === 200;
      const isWhole = (incoming.complete || isTaken) && Number.isFinite(announced);
      exchange.bytesIn = isWhole ? announced : bodyFollows(incoming) ? socket.bytesRead - start.read : 0;
      exchange.aborted = isCut(outgoing);
      const told = Number(outgoing.getHeader("content-length") ?? Number.NaN);
      const isSent = !exchange.aborted && Number.isFinite(told);
      exchange.bytesOut = !outgoing.headersSent ? 0 : isSent ? told : socket.bytesWritten - start.written;
    }
    // Without a head nothing was answered: the client had gone by then.
    exchange.status = outgoing.headersSent ? outgoing.statusCode : CLIENT_CLOSED;
    return (alreadySent ??= sentAlready());
  });
}

let alreadySent: Response | null = null;

/**
 * Tells `@hono/node-server` that all is written. Cloned, since what it takes for a `Response` it would write at once. The
 * one that it exports is made as soon as it is imported, for which Node loads its whole fetch library.
 */
function sentAlready(): Response {
  return new Response(null, { headers: { "x-hono-already-sent": "true" } }).clone();
}

async function serveWeb(
  c: AppContext,
  exchange: Exchange,
  serve: BlobService,
  host: BlobHost,
): Promise<Response> {
  const announced = c.req.header("content-length");
  exchange.bytesIn = announced === undefined ? 0 : Number(announced);
  const isCounted = announced === undefined && c.req.raw.body !== null;
  const response = await serve.fetch(isCounted ? counted(c.req.raw, exchange) : c.req.raw, host);
  exchange.bytesOut = c.req.method === "HEAD" ? 0 : Number(response.headers.get("content-length") ?? 0);
  const headers = new Headers(commonHeaders(exchange.id));
  for (const [name, value] of response.headers) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}

/** The same request, its body counted as it is read. */
function counted(request: Request, exchange: Exchange): Request {
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      exchange.bytesIn += chunk.length;
      controller.enqueue(chunk);
    },
  });
  const { method, body } = request;
  return new Request(request, { method, body: body?.pipeThrough(counter) ?? null, duplex: "half" });
}

/**
 * What is left of a body that a parser in front has read would be stored as an empty file.
 * @throws DocyardError `internal`, in words for whoever has put docyard behind that parser
 */
function checkUnread(c: AppContext): void {
  const incoming = c.env?.incoming as Partial<NodePair["incoming"]> | null | undefined;
  if (incoming?.readableEnded !== true || !bodyFollows({ headers: incoming.headers ?? {} })) return;
  throw new DocyardError("internal", "The upload was read before docyard: mount docyard before body parsers");
}

function isCut({ headersSent, destroyed, writableFinished, socket }: NodePair["outgoing"]): boolean {
  if (socket !== null) return socket.destroyed;
  return destroyed && !(headersSent && writableFinished);
}
