/**
 * The machine face's client: a dock's artifacts, uploaded, listed, downloaded. Tokens come from `token.ts`, transfers from
 * `send.ts` and `download.ts`; here is what each call means and which may be repeated.
 */

import type { Download, DownloadableArtifact, DownloadOptions } from "./download.ts";
import { openDownload } from "./download.ts";
import { DocyardApiError } from "./errors.ts";
import type { Answer, Call, CallOptions, Connection, ConnectionOptions } from "./http.ts";
import { checkBaseUrl, connection, repeatedCall, segment } from "./http.ts";
import type {
  ArtifactQuery,
  CreatedArtifact,
  CreateInput,
  ListedArtifact,
  Page,
  PageQuery,
  PendingArtifact,
  StatedArtifact,
  StoredArtifact,
} from "./machine-wire.ts";
import type { WaitOptions } from "./retry.ts";
import { polling } from "./retry.ts";
import type { SendOptions } from "./send.ts";
import { bareDigest, checkDigest, send, typeOf } from "./send.ts";
import type { Body, Source } from "./source.ts";
import { bodyOf, digestOfBody, orDiscard } from "./source.ts";
import type { Scope, TokenOptions } from "./token.ts";
import { createTokens } from "./token.ts";

export interface ClientOptions extends ConnectionOptions {
  /** Where the server is, with its path prefix if it has one: `https://files.example.com`. */
  readonly baseUrl: string;
  /** `dyc_…` */
  readonly clientId: string;
  /** `dys_…`; sent to the token endpoint alone. It does not belong in a web page: see `sendBytes`. */
  readonly clientSecret: string;
  /** What tokens are asked for. Default: all that the client has. */
  readonly scopes?: readonly Scope[] | undefined;
}

export interface Client {
  /** A dock by its id. Asks nobody; whether it is there shows on the first call. */
  dock(id: string): DockClient;
}

export interface UploadOptions extends Omit<CreateInput, "hash">, SendOptions, WaitOptions {
  /**
   * `auto` (default): held sources are hashed first, and sent only if the dock does not know them; streams are hashed as
   * they go, and what was stored is compared with it. Hex digits: declared as they are. `false`: left to the server.
   */
  readonly hash?: "auto" | (string & {}) | false | undefined;
  /** Of the artifact. Default: a blob's own, else by the filename's extension. */
  readonly contentType?: string | undefined;
  /**
   * Bytes; others than so many are refused. Default: a held source's own. Servers that keep their bytes in a bucket need
   * it for streams.
   */
  readonly size?: number | undefined;
  /** Ends the upload, and any wait before another try, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** How long the server may take to verify what it got, in milliseconds. Default 600,000 (10 minutes). */
  readonly timeoutMs?: number | undefined;
}

/** Everything here throws `DocyardApiError`, or the signal's reason. */
export interface DockClient {
  readonly id: string;
  /**
   * Create, send, complete. Resolves once the bytes are verified and durable, or at once if the dock has them: then
   * `isDuplicate` is true, and id and metadata are the earlier artifact's. An upload that fails leaves nothing but a row
   * that is never listed and expires.
   * @throws DocyardApiError `integrity_mismatch` or `unprocessable` if what arrived is not what was sent.
   */
  upload(source: Source, options: UploadOptions): Promise<StoredArtifact>;
  /** Registers an artifact. Its bytes go to `uploadUrl` (see `sendBytes`) within the hour, and then it is completed. */
  create(input: CreateInput, options?: CallOptions): Promise<CreatedArtifact>;
  /**
   * Publishes an artifact whose bytes have been sent; waits where the server has a worker verify them. Repeating it is
   * harmless. The id may be another than `create`'s: that of the artifact which already held these bytes.
   */
  complete(
    upload: Pick<PendingArtifact, "uploadId"> & Partial<Pick<PendingArtifact, "storageKey">>,
    options?: WaitOptions,
  ): Promise<StoredArtifact>;
  /** One page, newest first. */
  list(query?: PageQuery, options?: CallOptions): Promise<Page>;
  /**
   * Every matching artifact once, newest first, however many come and go meanwhile: page by page, by cursor. What is
   * created after the first page is not shown.
   */
  artifacts(query?: ArtifactQuery, options?: CallOptions): AsyncGenerator<ListedArtifact, void, void>;
  /** @throws DocyardApiError `not_found` */
  get(id: string, options?: CallOptions): Promise<StatedArtifact>;
  /**
   * Deletes an artifact.
   * @throws DocyardApiError `not_found`, unless it is an earlier try of this call that may have deleted it.
   */
  remove(id: string, options?: CallOptions): Promise<void>;
  /**
   * Opens an artifact's bytes. A listed artifact saves a request; an id, or a row that has grown old, costs one more.
   * @throws DocyardApiError `not_completed`; RangeError for a range outside of it.
   */
  download(artifact: string | DownloadableArtifact, options?: DownloadOptions): Promise<Download>;
}

/** Rows that the walk asks for at a time. */
const WALK_LIMIT = 100;

/** Asks nothing yet: the first call gets a token. @throws TypeError or RangeError for options that cannot work. */
export function createClient(options: ClientOptions): Client {
  const to = connection(options);
  const baseUrl = checkBaseUrl(options.baseUrl);
  const { clientId, clientSecret } = options;
  if (!clientId || !clientSecret) throw new TypeError("clientId and clientSecret must be given");
  const api = authorized(to, baseUrl, options);
  return { dock: (id) => dockClient(to, api, id) };
}

type Api = <T>(request: Call) => Promise<Answer<T>>;

/** Calls with a token; one that is refused is renewed, once. */
function authorized(to: Connection, baseUrl: string, options: TokenOptions): Api {
  const tokens = createTokens(to, baseUrl, options);
  return async <T>(request: Call): Promise<Answer<T>> => {
    const { signal } = request;
    signal?.throwIfAborted();
    const token = await tokens.get(signal);
    try {
      return await repeatedCall(to, baseUrl, request, token);
    } catch (error) {
      if (!(error instanceof DocyardApiError) || error.status !== 401) throw error;
      tokens.drop(token);
      return repeatedCall(to, baseUrl, request, await tokens.get(signal));
    }
  };
}

function dockClient(to: Connection, api: Api, id: string): DockClient {
  const path = `/v1/machine/docks/${segment("dock id", id)}/artifacts`;
  const pathOf = (artifactId: string): string => `${path}/${segment("artifact id", artifactId)}`;

  const list: DockClient["list"] = async (query = {}, { signal } = {}) =>
    (await api<Page>({ method: "GET", path, query: wireQuery(query), signal })).body;

  const get: DockClient["get"] = async (artifactId, { signal } = {}) =>
    (await api<StatedArtifact>({ method: "GET", path: pathOf(artifactId), signal })).body;

  // Repeated at will: an answer that was lost leaves a row that is never listed and expires.
  const create: DockClient["create"] = async (input, { signal } = {}) => {
    const { filename, contentType, size, metadata, hash } = input;
    const json = { filename, contentType, size, metadata, hash };
    return (await api<CreatedArtifact>({ method: "POST", path, json, signal })).body;
  };

  const complete: DockClient["complete"] = async ({ uploadId, storageKey }, options = {}) =>
    polling(to, options, "The upload's verification", async () => {
      const json = { uploadId, s3Key: storageKey };
      const answer = await api<StoredArtifact>({
        method: "POST",
        path: `${path}/upload/complete`,
        json,
        signal: options.signal,
      });
      return answer.status === 202 ? undefined : answer.body;
    });

  return {
    id,
    list,
    get,
    create,
    complete,

    async upload(source, options) {
      const { signal, hash = "auto" } = options;
      const body = bodyOf(source);
      const declared = await declaredHash(body, hash, signal);
      const contentType = options.contentType ?? (typeOf(body) || undefined);
      const size = options.size ?? body.size ?? undefined;
      const input = { ...options, contentType, size, hash: declared };
      const created = await orDiscard(body, create(input, { signal }));
      if (created.isDuplicate) {
        await body.discard();
        return created;
      }
      const sent = await send(to, created, body, {
        ...options,
        contentType,
        size,
        isHashed: hash === "auto",
      });
      const stored = await complete(created, options);
      checkDigest(sent ?? bareDigest(declared), bareDigest(stored.hash), "What was stored");
      return stored;
    },

    async *artifacts(query = {}, options = {}) {
      let cursor: string | undefined;
      for (;;) {
        const page: Page = await list({ ...query, limit: query.limit ?? WALK_LIMIT, cursor }, options);
        yield* page.data;
        const { nextCursor } = page.meta;
        if (nextCursor === null) return;
        if (nextCursor === cursor) throw new DocyardApiError("protocol", "The list does not advance");
        cursor = nextCursor;
      }
    },

    async remove(artifactId, { signal } = {}) {
      await api({ method: "DELETE", path: pathOf(artifactId), signal });
    },

    download: async (artifact, options = {}) =>
      openDownload(to, artifact, (artifactId) => get(artifactId, options), options),
  };
}

async function declaredHash(
  body: Body,
  hash: string | false,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (hash === false) return undefined;
  if (hash !== "auto") return hash;
  return body.held === null ? undefined : digestOfBody(body, signal);
}

function wireQuery(query: PageQuery): Record<string, string | undefined> {
  const { limit, offset, cursor, search, metadata, createdAfter, createdBefore, status } = query;
  return {
    limit: limit?.toString(),
    offset: offset?.toString(),
    cursor,
    search,
    metadata: metadata === undefined ? undefined : JSON.stringify(metadata),
    createdAfter: moment(createdAfter),
    createdBefore: moment(createdBefore),
    status: typeof status === "string" ? status : status?.join(","),
  };
}

function moment(time: Date | string | undefined): string | undefined {
  return typeof time === "object" ? time.toISOString() : time;
}
