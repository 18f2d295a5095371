/**
 * What every blob conformance case is made of: the store under test, bytes to put into it, and how its answers are read.
 * The cases themselves are in `blob-store.ts` and `blob-urls.ts`.
 */

import { createHash } from "node:crypto";
import type { BlobGrant, BlobHost, BlobService, BlobStore } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import { expect } from "vitest";

/** A fresh, empty store, and what a test may know beyond the port. */
export interface OpenBlobs {
  readonly blobs: BlobStore;
  /**
   * Sends a request to a signed URL as a client would: over the network, or through `redeemBy(blobs.serve)`.
   * Resolves to an answer with a status, whatever it is.
   */
  readonly redeem?: (request: Request) => Promise<Response>;
  /**
   * Everything the store keeps, named as keys; and, by whatever name, anything that should not be there, such as
   * temporary files or checksums without a blob.
   */
  leftovers(): Promise<string[]>;
  /** Lets so many milliseconds pass by the clock that judges expiry; default: really waits. */
  readonly wait?: (ms: number) => Promise<void>;
  close(): Promise<void>;
}

/** What kind of store it is: selects cases when the suite is made, so that none is skipped in silence. */
export interface BlobStoreTraits {
  /** `serve`: redeems its own signed URLs. `remote`: somebody else does. `none`: its URLs cannot be reached here. */
  readonly urls: "serve" | "remote" | "none";
  /** Whether `stat` after `put` always tells the digest. */
  readonly attests: boolean;
}

export interface BlobCase {
  readonly name: string;
  /** Which stores it is for; default all. */
  readonly when?: (traits: BlobStoreTraits) => boolean;
  /** Resolves to the keys it leaves on purpose; the suite checks that there is nothing else. */
  readonly run: (open: OpenBlobs, traits: BlobStoreTraits) => Promise<readonly string[]>;
}

export const MIB: number = 1024 * 1024;

/** Sizes around every boundary a store may have: nothing, one byte, a socket chunk, a checksum chunk, several. */
export const SIZES: readonly number[] = [0, 1, 65_535, 65_536, MIB - 1, MIB, MIB + 1, 3 * MIB + 7];

/** The same bytes for the same seed and size, without structure that a mistake could hide in. */
export function bytesFor(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 0xff;
  }
  return bytes;
}

export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The bytes as a body in chunks of one size. */
export async function* chunked(bytes: Uint8Array, chunk = 100_000): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.byteLength; at += chunk) yield bytes.subarray(at, at + chunk);
}

/** Everything a body yields, copied at once because its chunks may be reused. */
export async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(new Uint8Array(chunk));
  return Buffer.concat(chunks);
}

export async function putBytes(blobs: BlobStore, key: string, bytes: Uint8Array): Promise<string> {
  const { digest } = await blobs.put(key, chunked(bytes), { sizeMax: bytes.byteLength });
  return digest;
}

/** What is under a key, or null. */
export async function contentOf(blobs: BlobStore, key: string): Promise<Uint8Array | null> {
  try {
    return await collect((await blobs.get(key)).body);
  } catch (error) {
    if (isDocyardError(error, "not_found")) return null;
    throw error;
  }
}

/** Compares bytes by length and digest: a diff of megabytes helps nobody. */
export function expectSame(actual: Uint8Array | null, expected: Uint8Array | null): void {
  const brief = (bytes: Uint8Array | null): unknown =>
    bytes === null ? null : { size: bytes.byteLength, digest: digestOf(bytes) };
  expect(brief(actual)).toEqual(brief(expected));
}

/** The code a promise rejects with; `null` if it resolves, the error itself if it is no `DocyardError`. */
export async function codeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
    return null;
  } catch (error) {
    return isDocyardError(error) ? error.code : error;
  }
}

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  permission_denied: 403,
  not_found: 404,
  too_large: 409,
  invalid_argument: 400,
  failed_precondition: 409,
  resource_exhausted: 429,
  data_loss: 500,
};

/** A `redeem` for stores that serve themselves: what `fetch` rejects with becomes a status, as a server would answer. */
export function redeemBy(
  service: BlobService,
  host: BlobHost = permissiveHost(),
): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      return await service.fetch(request, host);
    } catch (error) {
      if (!(error instanceof DocyardError)) throw error;
      return new Response(error.message, { status: STATUS_BY_CODE[error.code] ?? 500 });
    }
  };
}

/** A host that lets everything pass and notes what it was asked. */
export interface NotingHost extends BlobHost {
  readonly admitted: BlobGrant[];
  readonly corrupted: { readonly grant: BlobGrant; readonly reason: string }[];
}

export function permissiveHost(admit: (grant: BlobGrant, asked: number) => void = () => {}): NotingHost {
  const admitted: BlobGrant[] = [];
  const corrupted: { grant: BlobGrant; reason: string }[] = [];
  return {
    admitted,
    corrupted,
    async admit(grant) {
      admitted.push(grant);
      admit(grant, admitted.length);
    },
    async corrupt(grant, reason) {
      corrupted.push({ grant, reason });
    },
  };
}

/** Defaults for signing; the times are by the real clock unless the case says otherwise. */
export function forPut(
  options: Partial<Parameters<BlobStore["signPut"]>[1]> = {},
): Parameters<BlobStore["signPut"]>[1] {
  return { expiresAt: Date.now() + 3_600_000, sizeMax: 64 * MIB, artifactId: "art_case", ...options };
}

export function forGet(
  bytes: Uint8Array,
  options: Partial<Parameters<BlobStore["signGet"]>[1]> = {},
): Parameters<BlobStore["signGet"]>[1] {
  return {
    expiresAt: Date.now() + 3_600_000,
    filename: "report.pdf",
    contentType: "application/pdf",
    size: bytes.byteLength,
    digest: digestOf(bytes),
    artifactId: "art_case",
    principalId: "mc_case",
    ...options,
  };
}
