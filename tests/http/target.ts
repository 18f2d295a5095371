/**
 * A docyard server as a client and an operator see it, wherever it runs: what black-box suites are written against.
 * How it is started, and on which adapters, is left to whoever opens it (`harness.ts` does so in memory).
 */

import { createHash, randomBytes } from "node:crypto";

export interface Target {
  /** Sends a request to a path of the server, or to an absolute URL that it handed out. */
  readonly fetch: (pathOrUrl: string, init?: RequestInit) => Promise<Response>;
  readonly operator: Operator;
  /** The largest artifact, in bytes. */
  readonly sizeMax: number;
  /**
   * Whether a worker verifies uploads after `complete` has answered 202, as on a bucket that cannot attest a digest.
   * Clients repeat `complete` until it says more.
   */
  readonly verifiesLater?: boolean;
  /** False where bytes are handed out by someone else, so that nobody counts downloads. Default true. */
  readonly servesBlobs?: boolean;
  /** The server's clock, where a test may turn it. */
  readonly clock?: Clock;
  close(): Promise<void>;
}

/** Provisioning, by command line or in process. */
export interface Operator {
  createDock(): Promise<string>;
  /** Of one dock, or of the whole organisation. */
  createClient(input: {
    readonly dockId?: string;
    readonly scopes?: readonly string[];
  }): Promise<ClientCredentials>;
  disableClient(id: string): Promise<void>;
}

export interface ClientCredentials {
  /** `mc_…` */
  readonly id: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

export interface Clock {
  now(): number;
  advance(ms: number): void;
}

/** A clock that stands still until it is told. */
export function manualClock(start: number = Date.UTC(2026, 2, 1, 12)): Clock {
  let time = start;
  return {
    now: () => time,
    advance(ms) {
      time += ms;
    },
  };
}

/** How long a worker may take for a small upload on a busy machine. */
const SETTLED_WITHIN_MS = 30_000;
const SETTLE_POLL_MS = 10;

export const READ = "artifacts:read";
export const WRITE = "artifacts:write";

export interface ArtifactJson {
  readonly id: string;
  readonly dockId: string;
  readonly filename: string;
  readonly contentType: string;
  readonly size: number | null;
  readonly hash: string | null;
  readonly storageKey: string;
  readonly metadata: Record<string, unknown>;
  readonly isDuplicate: boolean;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly uploadUrl: string;
  readonly uploadId: string;
}

export interface ListedJson extends Omit<
  ArtifactJson,
  "storageKey" | "isDuplicate" | "uploadUrl" | "uploadId"
> {
  readonly downloadUrl: string;
  readonly expiresAt: string;
}

export interface ListJson {
  readonly data: readonly ListedJson[];
  readonly meta: {
    readonly total: number;
    readonly page: number;
    readonly pageSize: number;
    readonly hasMore: boolean;
    readonly nextCursor: string | null;
  };
}

export interface ErrorJson {
  readonly statusCode: number;
  readonly message: string | readonly string[];
  readonly error: string;
}

export interface Answer<T> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

/** A status and a JSON body; the body's shape is the caller's belief. */
export async function answer<T>(pending: Promise<Response>): Promise<Answer<T>> {
  const response = await pending;
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: (text === "" ? undefined : JSON.parse(text)) as T,
  };
}

/** A token by the documented request. */
export async function requestToken(
  target: Target,
  { clientId, clientSecret }: ClientCredentials,
  scope?: string,
): Promise<string> {
  const issued = await answer<{ access_token: string }>(
    target.fetch("/v1/oauth/token", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        grant_type: "client_credentials",
        client_id: clientId,
        client_secret: clientSecret,
        ...(scope === undefined ? {} : { scope }),
      }),
    }),
  );
  if (issued.status !== 200) throw new Error(`no token: ${JSON.stringify(issued.body)}`);
  return issued.body.access_token;
}

/** The machine API of one dock with one token, as a small client would have it. */
export interface DockClient {
  readonly path: string;
  readonly token: string;
  create(body: object): Promise<Answer<ArtifactJson>>;
  put(uploadUrl: string, bytes: Uint8Array, headers?: Record<string, string>): Promise<Response>;
  /** Repeated while the answer is that a worker is still at it. */
  complete(body: object): Promise<Answer<ArtifactJson>>;
  list(query?: string): Promise<Answer<ListJson>>;
  /** Create, PUT, complete; throws where one of them fails. Resolves to what complete said. */
  upload(bytes: Uint8Array, create?: object): Promise<ArtifactJson>;
}

export function dockClient(target: Target, dockId: string, token: string): DockClient {
  const path = `/v1/machine/docks/${dockId}/artifacts`;
  const authorization = { Authorization: `Bearer ${token}` };
  const post = <T>(to: string, body: object): Promise<Answer<T>> =>
    answer<T>(
      target.fetch(to, {
        method: "POST",
        headers: { ...authorization, "Content-Type": "application/json" },
        body: JSON.stringify(body),
      }),
    );
  const client: DockClient = {
    path,
    token,
    create: (body) => post(path, body),
    put: (uploadUrl, bytes, headers = { "Content-Type": "application/pdf" }) =>
      target.fetch(uploadUrl, { method: "PUT", headers, body: new Uint8Array(bytes) }),
    async complete(body) {
      const deadline = Date.now() + SETTLED_WITHIN_MS;
      for (;;) {
        const completed = await post<ArtifactJson>(`${path}/upload/complete`, body);
        if (completed.status !== 202 || target.verifiesLater !== true || Date.now() > deadline)
          return completed;
        await new Promise((resolve) => setTimeout(resolve, SETTLE_POLL_MS));
      }
    },
    list: (query = "") => answer(target.fetch(path + query, { headers: authorization })),
    async upload(bytes, create = { filename: "a.pdf" }) {
      const created = await client.create(create);
      if (created.status !== 201) throw new Error(`create: ${JSON.stringify(created.body)}`);
      const put = await client.put(created.body.uploadUrl, bytes);
      if (put.status !== 200) throw new Error(`put: ${put.status} ${await put.text()}`);
      const completed = await client.complete({ uploadId: created.body.uploadId });
      if (completed.status !== 200) throw new Error(`complete: ${JSON.stringify(completed.body)}`);
      return completed.body;
    },
  };
  return client;
}

/** Two docks of one organisation, and the tokens that contract 5 speaks of. */
export interface World {
  readonly target: Target;
  readonly dockId: string;
  readonly otherDockId: string;
  readonly client: ClientCredentials;
  /** T_rw, T_w, T_r: for the dock; T_x: for the other; org: for every dock. */
  readonly rw: DockClient;
  readonly w: DockClient;
  readonly r: DockClient;
  readonly other: DockClient;
  readonly x: DockClient;
  readonly org: DockClient;
}

export async function openWorld(target: Target): Promise<World> {
  const { operator } = target;
  const [dockId, otherDockId] = [await operator.createDock(), await operator.createDock()];
  const [client, foreign, organization] = await Promise.all([
    operator.createClient({ dockId }),
    operator.createClient({ dockId: otherDockId }),
    operator.createClient({}),
  ]);
  const [rw, w, r, x, org] = await Promise.all([
    requestToken(target, client, `${READ} ${WRITE}`),
    requestToken(target, client, WRITE),
    requestToken(target, client, READ),
    requestToken(target, foreign),
    requestToken(target, organization),
  ]);
  return {
    target,
    dockId,
    otherDockId,
    client,
    rw: dockClient(target, dockId, rw),
    w: dockClient(target, dockId, w),
    r: dockClient(target, dockId, r),
    other: dockClient(target, otherDockId, x),
    x: dockClient(target, dockId, x),
    org: dockClient(target, dockId, org),
  };
}

/** Bytes no other test has. */
export function someBytes(length = 64): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
