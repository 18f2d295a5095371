/**
 * Sealing small secrets for the store: AES-256-GCM under a key kept outside the database, named by id so that it can
 * be rotated. A copied database alone gives nothing away, and a sealed text opens only in the record it was made for.
 */

import { DocyardError } from "./errors.ts";

export interface Keyring {
  /** Id of the key that seals from now on. */
  readonly current: string;
  /** Every key that may still open something: id (letters, digits, `-`, `_`) to 32 bytes. */
  readonly keys: Readonly<Record<string, Uint8Array<ArrayBuffer>>>;
}

export interface Sealer {
  /** `v1.<key id>.<nonce>.<ciphertext>`; `owner` is bound in, and needed to open. */
  seal(text: string, owner: string): Promise<string>;
  /** @throws DocyardError `failed_precondition` when the key is missing or the text was tampered with or moved. */
  open(sealed: string, owner: string): Promise<string>;
}

const NONCE_BYTES = 12;

export function createSealer(keyring: Keyring): Sealer {
  const importKey = async (id: string): Promise<CryptoKey> => {
    const bytes = Object.hasOwn(keyring.keys, id) ? keyring.keys[id] : undefined;
    if (bytes === undefined || bytes.length !== 32) {
      throw new DocyardError(
        "failed_precondition",
        `The secret key ${id} is not in this server's key file: put back the one that has it`,
      );
    }
    return crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
  };

  return {
    async seal(text, owner) {
      const key = await importKey(keyring.current);
      const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
      const sealed = await crypto.subtle.encrypt(
        { name: "AES-GCM", iv, additionalData: utf8(owner) },
        key,
        utf8(text),
      );
      return ["v1", keyring.current, encode(iv), encode(new Uint8Array(sealed))].join(".");
    },

    async open(sealed, owner) {
      const [version, id, iv, data, ...rest] = sealed.split(".");
      if (version !== "v1" || id === undefined || iv === undefined || data === undefined || rest.length > 0) {
        throw new DocyardError("failed_precondition", "A stored secret is not in a form this version knows");
      }
      const key = await importKey(id);
      try {
        const text = await crypto.subtle.decrypt(
          { name: "AES-GCM", iv: decode(iv), additionalData: utf8(owner) },
          key,
          decode(data),
        );
        return new TextDecoder().decode(text);
      } catch (cause) {
        throw new DocyardError(
          "failed_precondition",
          `A stored secret does not open with key ${id}: it was changed, or the key is another one`,
          { cause },
        );
      }
    },
  };
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function encode(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
