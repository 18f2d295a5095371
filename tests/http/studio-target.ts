/**
 * A server's Studio face as its clients see it, wherever it runs, and what a suite needs around it: keys, sources that
 * the server can reach, and media that it can read. How it is started is left to whoever opens it.
 */

import type { Answer, Operator, Target } from "./target.ts";
import { answer } from "./target.ts";

export interface StudioTarget extends Target {
  readonly operator: StudioOperator;
  /** Serves the bytes under a URL that the server may fetch; `name` is the end of its path. */
  publish(bytes: Uint8Array, name: string): Promise<string>;
  /** A URL that the server may fetch, and that answers 404. */
  deadUrl(): string;
  /** A file of its own that the server can read as what it is called. */
  media(kind: MediaKind): Promise<MediaFile>;
  /** Lets the background work go on; resolves when it has, or after a moment. */
  settle(): Promise<void>;
}

export type MediaKind = "video" | "audio" | "script" | "video in another format";

export interface MediaFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Null for scripts. */
  readonly seconds: number | null;
}

export interface StudioOperator extends Operator {
  createKey(input: { readonly name: string; readonly dockId: string }): Promise<StudioKey>;
}

export interface StudioKey {
  /** `key_…` */
  readonly id: string;
  readonly name: string;
  /** `dk_live_…` */
  readonly apiKey: string;
}

export interface StudioArtifact {
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly status: string;
  readonly uploadMethod: string;
  readonly size: number | null;
  readonly duration: number | null;
  readonly errorMessage: string | null;
  readonly s3Path: string;
  readonly s3Bucket: string;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly company?: { readonly id: string; readonly name: string };
  readonly createdBy?: { readonly id: string; readonly name: string };
  readonly downloadUrl?: string;
  readonly expiresAt?: string;
}

export interface Presigned {
  readonly s3Path: string;
  readonly presignedUploadUrl: string;
  readonly expiresAt: string;
}

export interface StudioList {
  readonly data: readonly StudioArtifact[];
  readonly meta: {
    readonly total: number;
    readonly page: number;
    readonly pageSize: number;
    readonly hasMore: boolean;
  };
}

export interface StudioErrorJson {
  readonly error: string;
  readonly message: string;
  readonly status: number;
}

export const ARTIFACTS = "/api/v1/artifacts";
export const CREATE: string = `${ARTIFACTS}/create`;

/** The Studio API with one key, as a small client would have it. */
export interface StudioClient {
  readonly key: StudioKey;
  create(body: object): Promise<Answer<StudioArtifact>>;
  get(id: string): Promise<Answer<StudioArtifact>>;
  list(query?: string): Promise<Answer<StudioList>>;
  presign(fileName: string): Promise<Answer<Presigned>>;
  /** Presign and PUT, as the documented shell commands do it; resolves to the `s3Path`. */
  upload(bytes: Uint8Array, fileName: string): Promise<string>;
  /** Creates, and waits for the end. */
  finish(body: object): Promise<StudioArtifact>;
  /** Any request, with the key. */
  send(path: string, init?: KeyedInit): Promise<Response>;
}

export type KeyedInit = Omit<RequestInit, "headers"> & {
  readonly headers?: Readonly<Record<string, string>>;
};

/** How often `finish` looks before it says that nothing happens. */
const LOOKS_MAX = 200;

export function studioClient(target: StudioTarget, key: StudioKey): StudioClient {
  const send: StudioClient["send"] = (path, init = {}) =>
    target.fetch(path, { ...init, headers: { ...bearer(key.apiKey), ...init.headers } });
  const client: StudioClient = {
    key,
    send,
    create: (body) =>
      answer(
        send(CREATE, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
        }),
      ),
    get: (id) => answer(send(`${ARTIFACTS}/${id}`)),
    list: (query = "") => answer(send(ARTIFACTS + query)),
    presign: (fileName) => answer(send(`${CREATE}?fileName=${encodeURIComponent(fileName)}`)),
    async upload(bytes, fileName) {
      const { status, body } = await client.presign(fileName);
      if (status !== 200) throw new Error(`presign: ${JSON.stringify(body)}`);
      const put = await target.fetch(body.presignedUploadUrl, {
        method: "PUT",
        headers: { "Content-Type": "application/octet-stream" },
        body: new Uint8Array(bytes),
      });
      if (put.status !== 200) throw new Error(`put: ${put.status} ${await put.text()}`);
      return body.s3Path;
    },
    async finish(body) {
      const created = await client.create(body);
      if (created.status !== 201) throw new Error(`create: ${JSON.stringify(created.body)}`);
      for (let looks = 0; looks < LOOKS_MAX; looks++) {
        await target.settle();
        const { body: artifact } = await client.get(created.body.id);
        if (artifact.status === "upload_completed" || artifact.status === "upload_failed") return artifact;
      }
      throw new Error(`artifact ${created.body.id} never ended`);
    },
  };
  return client;
}

export function bearer(apiKey: string): Record<string, string> {
  return { Authorization: `Bearer ${apiKey}` };
}

/** A dock of its own, with one key. */
export async function openStudio(target: StudioTarget): Promise<StudioClient> {
  const dockId = await target.operator.createDock();
  return studioClient(target, await target.operator.createKey({ name: "Editor", dockId }));
}
