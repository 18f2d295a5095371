/** Bytes for the blob tests: the same for the same size and seed, cheap to make in any amount. */

import { createHash } from "node:crypto";

const PERIOD = 65_521; // a prime, so that no boundary of a store falls together with the pattern's

/** Deterministic bytes without structure at the sizes that matter. */
export function bytesOfSize(size: number, seed = 1): Buffer<ArrayBuffer> {
  const pattern = Buffer.allocUnsafe(PERIOD);
  let state = (Math.imul(seed, 2_654_435_761) ^ 0x9e3779b9) >>> 0 || 1;
  for (let i = 0; i < PERIOD; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    pattern[i] = state & 0xff;
  }
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += PERIOD) {
    pattern.copy(bytes, at);
    if (at + 4 <= size) bytes.writeUInt32LE(at / PERIOD, at);
  }
  return bytes;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export const digestOf: (bytes: Uint8Array) => string = sha256;

export async function* chunksOf(
  bytes: Uint8Array,
  chunk = 64 * 1024,
): AsyncGenerator<Uint8Array, void, void> {
  const step = Math.max(1, Math.floor(chunk));
  for (let at = 0; at < bytes.byteLength; at += step) yield bytes.subarray(at, at + step);
}

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(new Uint8Array(chunk));
  return Buffer.concat(chunks);
}
