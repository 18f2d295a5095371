/**
 * Somebody else's web server, on loopback: files that a Studio server is told to fetch, as quickly or as slowly as a
 * test wants. Knows who asks and how far each answer has come; expects nothing.
 */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** Writes one answer's body; the next piece is asked for when the one before it has been taken. */
export type Body = (request: IncomingMessage) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface StudioOrigin {
  /** A URL of its own for these bytes; its path ends in `name`. */
  publish(bytes: Uint8Array, name: string): string;
  /** A URL whose body is made as it is sent. `size` is announced, when it is known. */
  stream(name: string, body: Body, size?: number): string;
  /** A URL that answers with this status and no body. */
  refuse(status: number): string;
  /** Requests that have come so far, to all URLs. */
  requests(): number;
  close(): Promise<void>;
}

type Handle = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export async function startOrigin(): Promise<StudioOrigin> {
  const handles = new Map<string, Handle>();
  let requests = 0;
  const server = createServer((request, response) => {
    requests++;
    const handle = handles.get(request.url ?? "");
    if (handle === undefined) response.writeHead(404).end();
    // A client that hangs up, and one that is killed, are what these tests are about.
    else handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  const mount = (name: string, handle: Handle): string => {
    const path = `/${randomUUID()}/${name}`;
    handles.set(path, handle);
    return `http://127.0.0.1:${port}${path}`;
  };
  return {
    publish: (bytes, name) =>
      mount(name, async (_, response) => {
        response.writeHead(200, { "content-length": bytes.length }).end(bytes);
      }),
    stream: (name, body, size) =>
      mount(name, async (request, response) => {
        response.writeHead(200, size === undefined ? {} : { "content-length": size });
        response.flushHeaders();
        const gone = once(response, "close");
        for await (const piece of body(request)) {
          if (response.destroyed) return;
          if (!response.write(piece)) await Promise.race([once(response, "drain"), gone]);
        }
        response.end();
      }),
    refuse: (status) =>
      mount("refused.mp4", async (_, response) => {
        response.writeHead(status).end();
      }),
    requests: () => requests,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The bytes in so many pieces, nearly equal. */
export function piecesOf(bytes: Uint8Array, count: number): Uint8Array[] {
  const step = Math.max(1, Math.ceil(bytes.length / count));
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += step) pieces.push(bytes.subarray(at, at + step));
  return pieces;
}

export interface HeldBody {
  readonly body: Body;
  /** Resolves when half of an answer has been sent. */
  readonly isHeld: Promise<void>;
  /** Lets all answers go on, also later ones. */
  release(): void;
}

/** A body that stops in the middle until it is released. */
export function heldBody(bytes: Uint8Array): HeldBody {
  const held = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const [first = new Uint8Array(), second = new Uint8Array()] = piecesOf(bytes, 2);
  return {
    isHeld: held.promise,
    release: () => released.resolve(),
    body: async function* () {
      yield first;
      held.resolve();
      await released.promise;
      yield second;
    },
  };
}
