/**
 * A machine client as the vendor's pages describe one, on plain node:http: token, create, PUT, complete, list, get.
 * Streams bodies both ways with back-pressure; asserts nothing.
 */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Credentials } from "./program.ts";

export interface ArtifactJson {
  readonly id: string;
  readonly dockId: string;
  readonly filename: string;
  readonly contentType: string;
  readonly size: number | null;
  readonly hash: string | null;
  readonly storageKey: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly isDuplicate: boolean;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly uploadUrl?: string;
  readonly uploadId?: string;
}

export interface ListedJson extends Omit<
  ArtifactJson,
  "uploadUrl" | "uploadId" | "storageKey" | "isDuplicate"
> {
  readonly downloadUrl: string;
  readonly expiresAt: string;
}

export interface PageJson {
  readonly data: readonly ListedJson[];
  readonly meta: { readonly total: number; readonly hasMore: boolean; readonly nextCursor?: string | null };
}

/** A whole answer. Small ones only: downloads are streamed. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

/** An answer that is not the one expected. A broken connection is node's own error instead. */
export class UnexpectedAnswer extends Error {
  override readonly name = "UnexpectedAnswer";
  readonly status: number;

  constructor(what: string, { status, body }: Answer) {
    super(`${what}: ${status} ${body.toString().slice(0, 500)}`);
    this.status = status;
  }
}

export type Body = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface MachineClient {
  readonly dockId: string;
  /** Bearer token, got on first use. */
  token(): Promise<string>;
  create(input: Readonly<Record<string, unknown>>): Promise<ArtifactJson>;
  complete(upload: Pick<ArtifactJson, "uploadId" | "storageKey">): Promise<ArtifactJson>;
  /** create, PUT, complete: what is stored in the end, perhaps an earlier artifact. */
  send(input: Readonly<Record<string, unknown>>, bytes: () => Body): Promise<ArtifactJson>;
  list(query?: Readonly<Record<string, string>>): Promise<PageJson>;
  /** Every page, by cursor. */
  listAll(): Promise<ListedJson[]>;
}

export function machineClient(url: string, credentials: Credentials, dockId: string): MachineClient {
  const artifacts = `${url}/v1/machine/docks/${dockId}/artifacts`;
  let granted: Promise<string> | null = null;

  const token = (): Promise<string> => (granted ??= issueToken(url, credentials));

  const call = async <T>(method: string, address: string, json?: object): Promise<T> => {
    const answer = await exchange(address, {
      method,
      headers: {
        authorization: `Bearer ${await token()}`,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(json === undefined ? {} : { body: Buffer.from(JSON.stringify(json)) }),
    });
    if (answer.status < 200 || answer.status > 299)
      throw new UnexpectedAnswer(`${method} ${address}`, answer);
    return JSON.parse(answer.body.toString()) as T;
  };

  const client: MachineClient = {
    dockId,
    token,
    create: (input) => call("POST", artifacts, input),
    complete: ({ uploadId, storageKey }) =>
      call("POST", `${artifacts}/upload/complete`, { uploadId, s3Key: storageKey }),
    async send(input, bytes) {
      const created = await client.create(input);
      if (created.uploadUrl === undefined) return created;
      await put(created.uploadUrl, bytes());
      return client.complete(created);
    },
    list: (query = {}) => call("GET", `${artifacts}?${new URLSearchParams(query).toString()}`),
    async listAll() {
      const all: ListedJson[] = [];
      let cursor: string | null | undefined;
      do {
        const page = await client.list({ limit: "1000", ...(cursor == null ? {} : { cursor }) });
        all.push(...page.data);
        cursor = page.meta.nextCursor;
        if (cursor == null && page.meta.hasMore) throw new Error("more pages and no way to them");
      } while (cursor != null);
      return all;
    },
  };
  return client;
}

async function issueToken(url: string, { clientId, clientSecret }: Credentials): Promise<string> {
  const answer = await exchange(`${url}/v1/oauth/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: Buffer.from(
      JSON.stringify({
        grant_type: "client_credentials",
        client_id: clientId,
        client_secret: clientSecret,
      }),
    ),
  });
  if (answer.status !== 200) throw new UnexpectedAnswer("token", answer);
  return (JSON.parse(answer.body.toString()) as { access_token: string }).access_token;
}

/** Sends bytes to a signed URL. @throws UnexpectedAnswer unless it answers 200. */
export async function put(uploadUrl: string, body: Body): Promise<Answer> {
  const answer = await exchange(uploadUrl, { method: "PUT", body });
  if (answer.status !== 200) throw new UnexpectedAnswer("PUT", answer);
  return answer;
}

/** Follows a download URL to its end and keeps nothing but size and digest. @throws Error if it breaks off. */
export async function download(
  downloadUrl: string,
): Promise<{ readonly status: number; readonly size: number; readonly digest: string }> {
  const response = await open(downloadUrl, { method: "GET" });
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { status: response.statusCode!, size, digest: hash.digest("hex") };
}

export interface ExchangeOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Body;
  /** Told how many bytes of the body have been written, each time. */
  readonly onProgress?: (sent: number) => void;
}

/** One request on a connection of its own, and its whole answer. */
export async function exchange(url: string, options: ExchangeOptions = {}): Promise<Answer> {
  const response = await open(url, options);
  const parts: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) parts.push(chunk);
  return { status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts) };
}

async function open(url: string, options: ExchangeOptions): Promise<IncomingMessage> {
  const { method = "GET", headers = {}, body, onProgress } = options;
  const whole = body instanceof Uint8Array ? body : null;
  const request = (url.startsWith("https:") ? httpsRequest : httpRequest)(url, {
    method,
    agent: false,
    headers: { ...headers, ...(whole === null ? {} : { "content-length": String(whole.length) }) },
  });
  const answered = once(request, "response") as Promise<[IncomingMessage]>;
  // Awaited below; until then a broken connection must not count as unhandled.
  answered.catch(() => {});
  if (whole !== null || body === undefined) request.end(whole ?? undefined);
  else await stream(request, body as AsyncIterable<Uint8Array>, onProgress, answered);
  const [response] = await answered;
  return response;
}

/** Writes the body until it ends, or until the server has answered or hung up. */
async function stream(
  request: ClientRequest,
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  onProgress: ((sent: number) => void) | undefined,
  answered: Promise<unknown>,
): Promise<void> {
  let isOver = false;
  const over = answered.then(
    () => (isOver = true),
    () => (isOver = true),
  );
  let sent = 0;
  for await (const chunk of body) {
    if (isOver) return;
    const isRoomy = request.write(chunk);
    sent += chunk.length;
    onProgress?.(sent);
    if (!isRoomy) await Promise.race([once(request, "drain").catch(() => {}), over]);
  }
  request.end();
}
