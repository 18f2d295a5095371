/**
 * Everything that is random in the test double, from one seed: SHA-256 in counter mode, so that each purpose has bytes
 * of its own and none depends on what was asked for before it. Fit for tests, and for nothing that must be secret.
 */

import { createHash, createPrivateKey } from "node:crypto";

export interface SeededRandom {
  /** The same bytes for the same purpose, each time. */
  bytes(purpose: string, length: number): Uint8Array<ArrayBuffer>;
  /** `prefix` and so many letters and digits of this purpose. */
  text(purpose: string, prefix: string, length?: number): string;
  /** Fills buffers one after the other, as `createIdSource` wants it. */
  filler(purpose: string): (buffer: Uint8Array<ArrayBuffer>) => void;
  /** Numbers from 0 up to 1, one after the other. */
  numbers(purpose: string): () => number;
  /** An Ed25519 private key as JWK text (RFC 8037). */
  signingJwk(purpose: string): string;
}

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** What comes before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7). */
const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");

export function seededRandom(seed: number | string): SeededRandom {
  const bytes = (purpose: string, length: number): Uint8Array<ArrayBuffer> => {
    const made = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      const block = createHash("sha256").update(`docyard double\n${seed}\n${purpose}\n${at}`).digest();
      made.set(block.subarray(0, length - at), at);
    }
    return made;
  };
  return {
    bytes,
    text: (purpose, prefix, length = 43) =>
      prefix + Array.from(bytes(purpose, length), (byte) => ALPHABET[byte % ALPHABET.length]!).join(""),
    filler(purpose) {
      let calls = 0;
      return (buffer) => buffer.set(bytes(`${purpose} ${calls++}`, buffer.length));
    },
    numbers(purpose) {
      let calls = 0;
      return () => Buffer.from(bytes(`${purpose} ${calls++}`, 4)).readUInt32BE() / 2 ** 32;
    },
    signingJwk(purpose) {
      const key = createPrivateKey({
        key: Buffer.concat([PKCS8_ED25519, bytes(purpose, 32)]),
        format: "der",
        type: "pkcs8",
      });
      return JSON.stringify(key.export({ format: "jwk" }));
    },
  };
}
