/**
 * Origins on loopback for the fetch tests: 127.0.0.3 plays the public internet, 127.0.0.1 the private network.
 * Says nothing about what a fetch should do with them.
 */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export const PUBLIC = "127.0.0.3";
export const PRIVATE = "127.0.0.1";

export interface Origin {
  readonly port: number;
  /** `http://127.0.0.3:port` */
  readonly url: string;
  /** Connections accepted so far. */
  readonly connections: () => number;
  /** Connections open now. */
  readonly open: () => number;
  close(): Promise<void>;
}

export async function startOrigin(handle: RequestListener, host: string = PUBLIC): Promise<Origin> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer(handle);
  server.on("connection", (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://${host}:${port}`,
    connections: () => connections,
    open: () => sockets.size,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** Serves `bytes` with ranges, and breaks the connection after `cuts[i]` bytes of the i-th answer. */
export function brittle(
  bytes: Uint8Array,
  cuts: readonly number[],
  headers: Record<string, string> = { etag: '"v1"' },
): { readonly handle: RequestListener; readonly requests: IncomingMessage[] } {
  const requests: IncomingMessage[] = [];
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const cut = cuts[requests.length];
    requests.push(request);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const rest = bytes.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, {
      ...headers,
      "content-length": rest.length,
      ...(start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    if (cut === undefined || cut >= rest.length) response.end(rest);
    else response.write(rest.subarray(0, Math.max(cut, 1)), () => response.destroy());
  };
  return { handle, requests };
}

/** All bytes of a body. */
export async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

/** What the promise rejects with; fails the test when it does not. */
export async function faultOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error("resolved, although it should have been refused");
}
