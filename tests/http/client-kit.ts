/**
 * The client package against the real app in process, over a network that breaks as it is told: requests refused,
 * answers lost, statuses put in between, bodies cut. Asserts nothing.
 */

import { randomUUID } from "node:crypto";
import type { Client, ClientOptions, ConnectionOptions, DockClient, RetryOptions } from "@docyard/client";
import { createClient, createStudioClient } from "@docyard/client";
import type { StudioClient } from "@docyard/client";
import type { Harness, HarnessOptions } from "./harness.ts";
import { openHarness, PUBLIC_URL } from "./harness.ts";
import type { StudioHarness } from "./studio-harness.ts";

/** What becomes of one request. */
export type Fate =
  | "ok"
  /** Never arrives. */
  | "refused"
  /** Arrives and is handled, but its answer does not come back. */
  | "lost"
  /** Answered by something in between, which has not passed it on. */
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  /** Answered, but the body breaks after so many bytes: with an error, or by just ending. */
  | { readonly cutAt: number; readonly how: "error" | "end" };

export interface Seen {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly headers: Headers;
}

export interface Network {
  readonly fetch: NonNullable<ConnectionOptions["fetch"]>;
  /** Every request, whatever became of it. */
  readonly seen: Seen[];
  /** How many requests there were to paths that match. */
  count(method: string, path?: RegExp): number;
}

/** @param fateOf asked once per request */
export function network(
  app: Harness["app"],
  fateOf: (request: Request, seen: Seen) => Fate = () => "ok",
): Network {
  const seen: Seen[] = [];
  const pass = async (request: Request): Promise<Response> => app.fetch(request);
  return {
    seen,
    count: (method, path = /^/) =>
      seen.filter((one) => one.method === method && path.test(one.target)).length,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const one = { method: request.method, target: pathname + search, headers: request.headers };
      seen.push(one);
      const fate = fateOf(request, one);
      if (fate === "ok") return pass(request);
      if (fate === "refused")
        throw new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") });
      if (fate === "lost") {
        await (await pass(request)).arrayBuffer();
        // As Deno words it: the whole URL, signature and all.
        throw new TypeError(`error sending request for url (${request.url}): connection closed`);
      }
      if ("status" in fate) {
        return new Response(fate.body ?? "", { status: fate.status, headers: fate.headers ?? {} });
      }
      const response = await pass(request);
      return new Response(cut(response.body, fate), response);
    },
  };
}

function cut(
  body: ReadableStream<Uint8Array> | null,
  { cutAt, how }: { readonly cutAt: number; readonly how: "error" | "end" },
): ReadableStream<Uint8Array> | null {
  if (body === null) return null;
  const reader = body.getReader();
  let left = cutAt;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await reader.read();
        if (!next.done && next.value.length <= left) {
          left -= next.value.length;
          controller.enqueue(next.value);
          return;
        }
        if (!next.done && left > 0) controller.enqueue(next.value.subarray(0, left));
        await reader.cancel();
        if (next.done || how === "end") controller.close();
        else if (left > 0) left = 0;
        else controller.error(new TypeError("terminated"));
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

/** Takes fates from a list; what comes after it is fine. */
export function fates(
  list: readonly Fate[],
  isMeant: (seen: Seen) => boolean = () => true,
): (r: Request, s: Seen) => Fate {
  const left = [...list];
  return (_request, seen) => (isMeant(seen) ? (left.shift() ?? "ok") : "ok");
}

/** Retries that wait for nobody, and keep what they would have waited. */
export function noWaiting(options: RetryOptions = {}): {
  readonly waits: number[];
  readonly retry: RetryOptions;
} {
  const waits: number[] = [];
  return {
    waits,
    retry: {
      random: () => 0.5,
      async sleep(ms, signal) {
        signal?.throwIfAborted();
        waits.push(ms);
      },
      ...options,
    },
  };
}

/** No limit in the way of a test that is about something else. */
export const FREE: NonNullable<HarnessOptions["settings"]> = {
  limits: {
    list: { max: 0, windowMs: 1 },
    download: { max: 0, windowMs: 1 },
    token: { max: 0, windowMs: 1 },
    studio: { max: 0, windowMs: 1 },
    studioDaily: { max: 0, windowMs: 1 },
  },
};

export interface ClientWorld {
  readonly harness: Harness;
  readonly dockId: string;
  readonly credentials: { readonly clientId: string; readonly clientSecret: string };
  /** A client of the whole organisation on a network of its own. */
  connect(options?: Partial<ClientOptions>, fateOf?: (request: Request, seen: Seen) => Fate): Connected;
}

export interface Connected {
  readonly client: Client;
  readonly dock: DockClient;
  readonly net: Network;
  readonly waits: readonly number[];
}

export async function openClientWorld(options: HarnessOptions = {}): Promise<ClientWorld> {
  const harness = await openHarness({ settings: FREE, ...options });
  const dockId = await harness.operator.createDock();
  const { clientId, clientSecret } = await harness.operator.createClient({});
  return {
    harness,
    dockId,
    credentials: { clientId, clientSecret },
    connect(given = {}, fateOf) {
      const net = network(harness.app, fateOf);
      const { waits, retry } = noWaiting(given.retry);
      const client = createClient({
        baseUrl: PUBLIC_URL,
        clientId,
        clientSecret,
        fetch: net.fetch,
        now: () => harness.clock.now(),
        ...given,
        retry,
      });
      return { client, dock: client.dock(dockId), net, waits };
    },
  };
}

export interface ConnectedStudio {
  readonly studio: StudioClient;
  readonly apiKey: string;
  readonly net: Network;
  readonly waits: readonly number[];
}

/** A key of a dock of its own, on a network of its own; each wait lets the server's background work take one step. */
export async function connectStudio(
  target: StudioHarness,
  fateOf?: (request: Request, seen: Seen) => Fate,
): Promise<ConnectedStudio> {
  const dockId = await target.operator.createDock();
  const { apiKey } = await target.operator.createKey({ name: `Editor ${randomUUID()}`, dockId });
  const net = network(target.app, fateOf);
  const waits: number[] = [];
  const studio = createStudioClient({
    baseUrl: `${PUBLIC_URL}/`,
    apiKey,
    fetch: net.fetch,
    now: () => target.clock.now(),
    retry: {
      random: () => 0.5,
      async sleep(ms, signal) {
        signal?.throwIfAborted();
        waits.push(ms);
        target.clock.advance(ms);
        if (target.rings.length > 0) await target.step();
      },
    },
  });
  return { studio, apiKey, net, waits };
}

/** What a call failed with. */
export async function failure(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => {
      throw new Error("it did not fail");
    },
    (error: unknown) => error,
  );
}

/** Bytes in chunks of the given lengths, in turn. */
export function streamOf(bytes: Uint8Array, lengths: readonly number[] = [1000]): ReadableStream<Uint8Array> {
  let at = 0;
  let turn = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const length = lengths[turn++ % lengths.length]!;
      controller.enqueue(bytes.slice(at, at + length));
      at += length;
    },
  });
}
