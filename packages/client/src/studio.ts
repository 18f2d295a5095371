/**
 * The Studio face's client: media that the server fetches, joins and measures in the background. Transfers are `send.ts`'s
 * and `download.ts`'s; here is what each call means and which may be repeated.
 */

import type { Download, DownloadOptions } from "./download.ts";
import { openDownload } from "./download.ts";
import { DocyardApiError } from "./errors.ts";
import type { Call, CallOptions, ConnectionOptions } from "./http.ts";
import { checkBaseUrl, connection, isToken, repeatedCall, segment } from "./http.ts";
import type { WaitOptions } from "./retry.ts";
import { polling } from "./retry.ts";
import type { SendOptions } from "./send.ts";
import { send } from "./send.ts";
import type { Source } from "./source.ts";
import { bodyOf, orDiscard } from "./source.ts";
import type {
  MediaType,
  Presigned,
  StudioArtifact,
  StudioCreateInput,
  StudioPage,
  StudioPageQuery,
  StudioQuery,
} from "./studio-wire.ts";

export interface StudioClientOptions extends ConnectionOptions {
  /** Where the server is, with its path prefix if it has one: `https://files.example.com`. */
  readonly baseUrl: string;
  /** `dk_…`; does not belong in a web page: see `sendBytes`. */
  readonly apiKey: string;
}

export interface StudioUploadOptions extends Omit<SendOptions, "contentType"> {
  /** With an extension. */
  readonly fileName: string;
  readonly type: MediaType;
  /** Display name. Default: the file's. */
  readonly name?: string | undefined;
}

export interface StudioWaitOptions extends WaitOptions {
  /** What is waited for. Default: the status `upload_completed`. */
  readonly until?: ((artifact: StudioArtifact) => boolean) | undefined;
}

/** Everything here throws `DocyardApiError`, or the signal's reason. */
export interface StudioClient {
  /** Somewhere to send a local file, and the `s3Path` that names it in `create`. */
  presign(fileName: string, options?: CallOptions): Promise<Presigned>;
  /**
   * Registers an artifact; the server goes on by itself, and `wait` tells when it is done. Tried again only if it was
   * refused before anything happened (429, 503): after a lost answer there may be an artifact already. `artifacts` shows.
   */
  create(input: StudioCreateInput, options?: CallOptions): Promise<StudioArtifact>;
  /** Presign, send, create: a local file, at which the server then looks. */
  upload(source: Source, options: StudioUploadOptions): Promise<StudioArtifact>;
  /**
   * Looks, ever more rarely, until the artifact is what is waited for.
   * @throws DocyardApiError `upload_failed` with the server's reason; `timeout`.
   */
  wait(id: string, options?: StudioWaitOptions): Promise<StudioArtifact>;
  /** @throws DocyardApiError `not_found` */
  get(id: string, options?: CallOptions): Promise<StudioArtifact>;
  /** One page, newest first. */
  list(query?: StudioPageQuery, options?: CallOptions): Promise<StudioPage>;
  /**
   * Every matching artifact, newest first, page by page; none twice, however many are created meanwhile. What is removed
   * meanwhile lets rows slip by unseen: collect first, then remove.
   */
  artifacts(query?: StudioQuery, options?: CallOptions): AsyncGenerator<StudioArtifact, void, void>;
  /**
   * Deletes an artifact, also one that is still being fetched.
   * @throws DocyardApiError `not_found`, unless it is an earlier try of this call that may have deleted it.
   */
  remove(id: string, options?: CallOptions): Promise<void>;
  /** Opens a completed artifact's bytes. @throws DocyardApiError `not_completed`; RangeError. */
  download(
    artifact: string | Pick<StudioArtifact, "id" | "size" | "downloadUrl" | "expiresAt">,
    options?: DownloadOptions,
  ): Promise<Download>;
}

const PATH = "/api/v1/artifacts";
/** Rows that the walk asks for at a time. */
const WALK_LIMIT = 100;

/** Asks nothing yet. @throws TypeError or RangeError for options that cannot work. */
export function createStudioClient(options: StudioClientOptions): StudioClient {
  const to = connection(options);
  const baseUrl = checkBaseUrl(options.baseUrl);
  const { apiKey } = options;
  if (!isToken(apiKey)) throw new TypeError("apiKey must be an API key: dk_live_…");
  const api = async <T>(request: Call): Promise<T> =>
    (await repeatedCall<T>(to, baseUrl, request, apiKey)).body;
  const pathOf = (id: string): string => `${PATH}/${segment("artifact id", id)}`;

  const get: StudioClient["get"] = async (id, { signal } = {}) =>
    api({ method: "GET", path: pathOf(id), signal });

  const presign: StudioClient["presign"] = async (fileName, { signal } = {}) =>
    api({ method: "GET", path: `${PATH}/create`, query: { fileName }, signal });

  const create: StudioClient["create"] = async (json, { signal } = {}) =>
    api({ method: "POST", path: `${PATH}/create`, json, signal, isOnce: true });

  const list: StudioClient["list"] = async ({ status, type, limit, page } = {}, { signal } = {}) =>
    api({
      method: "GET",
      path: PATH,
      query: { status, type, limit: limit?.toString(), page: page?.toString() },
      signal,
    });

  return {
    presign,
    create,
    get,
    list,

    async upload(source, options) {
      const { fileName, name = fileName, type, signal } = options;
      const body = bodyOf(source);
      const presigned = await orDiscard(body, presign(fileName, { signal }));
      const { s3Path, presignedUploadUrl: uploadUrl, uploadHeaders = {} } = presigned;
      // The contract's type for every PUT (1J).
      const contentType = "application/octet-stream";
      await send(to, { uploadUrl, uploadHeaders }, body, { ...options, contentType, isHashed: false });
      return create({ name, type, s3Path }, { signal });
    },

    async wait(id, options = {}) {
      const { until = ({ status }: StudioArtifact) => status === "upload_completed" } = options;
      return polling(to, options, `Artifact ${id}`, async () => {
        const artifact = await get(id, options);
        if (until(artifact)) return artifact;
        if (artifact.status !== "upload_failed") return undefined;
        throw new DocyardApiError("upload_failed", artifact.errorMessage ?? "The artifact has failed");
      });
    },

    async *artifacts(query = {}, options = {}) {
      let last: StudioArtifact | null = null;
      for (let page = 1; ; page++) {
        const { data, meta }: StudioPage = await list(
          { ...query, limit: query.limit ?? WALK_LIMIT, page },
          options,
        );
        for (const artifact of data) {
          // New ones have pushed it down from the page before.
          if (last !== null && !isAfter(artifact, last)) continue;
          last = artifact;
          yield artifact;
        }
        if (!meta.hasMore) return;
      }
    },

    async remove(id, { signal } = {}) {
      await api({ method: "DELETE", path: pathOf(id), signal });
    },

    download: async (artifact, options = {}) => openDownload(to, artifact, (id) => get(id, options), options),
  };
}

/** In the list's order: newest first, ids break ties (contract 33). */
function isAfter(artifact: StudioArtifact, last: StudioArtifact): boolean {
  if (artifact.createdAt !== last.createdAt) return artifact.createdAt < last.createdAt;
  return artifact.id < last.id;
}
