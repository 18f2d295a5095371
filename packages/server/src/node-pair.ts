/**
 * Node's own objects behind a request, for bodies that are better moved without web objects: when they may be touched at
 * all, and as much of their shape as is looked at. What is done with them is left to whoever asks.
 */

import type { AppContext } from "./exchange.ts";

/** As much of `node:http` as is looked at here. */
export interface NodePair {
  readonly incoming: {
    readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
    readonly complete: boolean;
    /** Bytes of the body that are here, and that nobody has read. */
    readonly readableLength: number;
    /** Set where somebody has asked for text instead of bytes. */
    readonly readableEncoding: string | null;
    /** Null as long as nobody has begun to read it. */
    readonly readableFlowing: boolean | null;
    /** Whether somebody has read it to its end. */
    readonly readableEnded: boolean;
    readonly socket: { readonly bytesRead: number; readonly bytesWritten: number };
    /** All that is here, null if that is nothing. */
    read(): Uint8Array | null;
    /** Lets go of the rest, and of the request when its end has come. */
    resume(): unknown;
  };
  readonly outgoing: {
    readonly headersSent: boolean;
    readonly statusCode: number;
    readonly destroyed: boolean;
    readonly writableFinished: boolean;
    /** Null once the response is complete: Node takes it off the socket then. */
    readonly socket: { readonly destroyed: boolean } | null;
    setHeader(name: string, value: string): unknown;
    getHeader(name: string): unknown;
  };
}

/**
 * Node's objects, or null on another host. Also null for HEAD, which Hono answers by wrapping the response to a GET:
 * it would write a second one over what the store has sent; for HTTP/2, whose sockets carry many requests; and where
 * the body is being read already, for it cannot be read in two ways.
 */
export function nodePair(c: AppContext): NodePair | null {
  const { incoming, outgoing } = c.env ?? {};
  if (c.req.method === "HEAD" || incoming == null || outgoing == null) return null;
  const pair = { incoming, outgoing } as NodePair;
  if (pair.incoming.readableFlowing !== null || (c.req.method !== "GET" && isCopy(c.req.raw))) return null;
  return "httpVersionMajor" in pair.incoming && pair.incoming.httpVersionMajor === 1 ? pair : null;
}

/**
 * A request that was made of another one, as Hono's `mount` does: its body pulls at Node's from its first moment. What
 * `@hono/node-server` hands over itself only looks like a `Request`, and touches nothing before it is asked to.
 */
function isCopy(request: Request): boolean {
  return Object.getPrototypeOf(request) === Request.prototype;
}

export function bodyFollows({ headers }: Pick<NodePair["incoming"], "headers">): boolean {
  return headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
}
