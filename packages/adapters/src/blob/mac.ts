/**
 * HMAC-SHA256 (RFC 2104) made of two one-shot hashes: a list signs a URL for each of its rows, and an Hmac object costs
 * twice as much, most of it in making and freeing it. What is signed is left to `signed-url.ts`.
 */

import { createHash, hash } from "node:crypto";

/** Bytes of SHA-256's block and of its output. */
const BLOCK = 64;
const OUTPUT = 32;
/** Room for a message at first; a longer one makes more. */
const MESSAGE = 4_096;

/** Makes the function that gives the code of an ASCII text, in hexadecimal. */
export function createMac(secret: Uint8Array): (text: string) => string {
  const key = secret.byteLength > BLOCK ? createHash("sha256").update(secret).digest() : secret;
  /** The key's block, each byte with some bits flipped, and room behind it. */
  const padded = (flipped: number, room: number): Buffer => {
    const bytes = Buffer.alloc(BLOCK + room);
    for (let i = 0; i < BLOCK; i++) bytes[i] = (key[i] ?? 0) ^ flipped;
    return bytes;
  };
  let inner = padded(0x36, MESSAGE);
  /** The key's block and the text. */
  let message = inner.subarray(0, BLOCK);
  const outer = padded(0x5c, OUTPUT);
  return (text) => {
    const end = BLOCK + text.length;
    if (end > inner.length) inner = Buffer.concat([inner.subarray(0, BLOCK)], end);
    // Most URLs of a page are equally long, and making a view takes a tenth of the time that hashing does.
    if (end !== message.length) message = inner.subarray(0, end);
    inner.write(text, BLOCK, "binary");
    outer.write(hash("sha256", message, "binary"), BLOCK, "binary");
    return hash("sha256", outer, "hex");
  };
}
