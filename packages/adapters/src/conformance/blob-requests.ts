/**
 * Requests to signed URLs for the conformance cases, and how they reach whoever redeems them.
 * What is to be answered is left to the cases.
 */

import type { BlobService } from "@docyard/core";
import type { BlobStoreTraits, OpenBlobs } from "./blob-case.ts";
import { forGet, forPut } from "./blob-case.ts";

export function reachable({ urls }: BlobStoreTraits): boolean {
  return urls !== "none";
}

export function serves({ urls }: BlobStoreTraits): boolean {
  return urls === "serve";
}

/** What a client is answered. */
export async function send({ redeem }: OpenBlobs, request: Request): Promise<Response> {
  if (redeem === undefined) {
    throw new TypeError("a store with reachable URLs needs `redeem` in what `open` gives");
  }
  return redeem(request);
}

export function service({ blobs }: OpenBlobs): BlobService {
  if (blobs.serve === undefined) throw new TypeError("a store that serves itself needs `serve`");
  return blobs.serve;
}

type UploadBody = Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | string;

/** A PUT to a fresh signed URL. */
export async function putRequest(
  { blobs }: OpenBlobs,
  key: string,
  body: UploadBody | null,
  options: Parameters<typeof forPut>[0] & { readonly headers?: Record<string, string> } = {},
): Promise<Request> {
  const { headers, ...grant } = options;
  const signed = await blobs.signPut(key, forPut(grant));
  return new Request(signed.url, {
    method: "PUT",
    body,
    headers: { ...signed.headers, ...headers },
    duplex: "half",
  });
}

/** A GET, or what `init` says, of a fresh signed URL. */
export async function getRequest(
  { blobs }: OpenBlobs,
  key: string,
  bytes: Uint8Array,
  init: RequestInit = {},
  options: Parameters<typeof forGet>[1] = {},
): Promise<Request> {
  const signed = await blobs.signGet(key, forGet(bytes, options));
  return new Request(signed.url, { ...init, headers: { ...signed.headers, ...(init.headers as object) } });
}

export async function bodyOf(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await response.arrayBuffer());
}

/** A stream that hands out chunks and then, if told so, fails. */
export function streamOf(
  chunks: readonly Uint8Array<ArrayBuffer>[],
  failure?: Error,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      if (failure === undefined) controller.close();
      else controller.error(failure);
    },
  });
}
