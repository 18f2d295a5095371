/**
 * The records of the server's signing keys: which of them are in force, how one is made, and how they are rotated so
 * that operators who do it at once take nothing from each other. When running servers notice is in `signing-keys.ts`.
 */

import type { ServerKey } from "./access.ts";
import { isDocyardError } from "./errors.ts";
import type { AccountStore } from "./ports.ts";

/** Bytes of a key for URLs: the output of SHA-256, beyond which HMAC gains nothing. */
const URL_KEY_BYTES = 32;
/** Whoever loses a race to an id looks again; each loss is another operator's new key, so this is never reached. */
const ROUNDS_MAX = 100;

export interface RotateOptions {
  /** Default: tokens and URLs. */
  readonly purposes?: readonly ServerKey["purpose"][];
  /** Whether what older keys signed ends, too. Default false: it goes on until it runs out. */
  readonly revoke?: boolean;
}

export interface Rotated {
  /** One for each purpose. */
  readonly made: readonly ServerKey[];
  readonly revoked: readonly ServerKey[];
}

/** Those in force for a purpose, newest first: the first signs, every one verifies. @param stored oldest first. */
export function activeKeys(stored: readonly ServerKey[], purpose: ServerKey["purpose"]): ServerKey[] {
  return stored.filter((key) => key.purpose === purpose && key.revokedAt === undefined).toReversed();
}

/** The bytes that a URL key signs with. */
export function urlSecretOf({ secret }: ServerKey): Uint8Array {
  const text = atob(secret.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

/** See `Provisioning.serverKeys`. */
export async function readServerKeys(
  accounts: AccountStore,
  purpose: ServerKey["purpose"],
  now: () => number,
): Promise<readonly [ServerKey, ...ServerKey[]]> {
  let stored = await accounts.list("serverKey");
  if (activeKeys(stored, purpose).length === 0) {
    try {
      await accounts.insert([await newServerKey(purpose, stored, now())]);
    } catch (error) {
      // Replicas that start at once number it alike: one inserts it.
      if (!isDocyardError(error, "already_exists")) throw error;
    }
    stored = await accounts.list("serverKey");
  }
  const [first, ...rest] = activeKeys(stored, purpose);
  if (first === undefined) throw new Error(`the store lost its ${purpose} key`);
  return [first, ...rest];
}

/** See `Provisioning.rotateServerKeys`. Interrupted, it leaves new keys, and old ones that are not revoked yet. */
export async function rotateServerKeys(
  accounts: AccountStore,
  now: () => number,
  { purposes = ["token", "url"], revoke = false }: RotateOptions,
): Promise<Rotated> {
  const { made, older } = await addKeys(accounts, purposes, now);
  const revoked: ServerKey[] = [];
  for (const { id } of revoke ? older : []) {
    const key = await accounts.update("serverKey", id, { revokedAt: now() });
    if (key !== null) revoked.push(key);
  }
  return { made, revoked };
}

/** Adds all or none. `older`: those that were in force before; whoever loses a race finds the winner's among them. */
async function addKeys(
  accounts: AccountStore,
  purposes: readonly ServerKey["purpose"][],
  now: () => number,
): Promise<{ readonly made: readonly ServerKey[]; readonly older: readonly ServerKey[] }> {
  for (let round = 1; ; round++) {
    const stored = await accounts.list("serverKey");
    const at = now();
    const made = await Promise.all(purposes.map((purpose) => newServerKey(purpose, stored, at)));
    try {
      await accounts.insert(made);
      return { made, older: purposes.flatMap((purpose) => activeKeys(stored, purpose)) };
    } catch (error) {
      if (!isDocyardError(error, "already_exists") || round === ROUNDS_MAX) throw error;
    }
  }
}

/** With the next number of its purpose, and later than all that are stored: clocks of operators and servers differ. */
async function newServerKey(
  purpose: ServerKey["purpose"],
  stored: readonly ServerKey[],
  at: number,
): Promise<ServerKey> {
  const numbered = new RegExp(`^${purpose}-(\\d{1,15})$`);
  const numbers = stored.map(({ id }) => Number(numbered.exec(id)?.[1] ?? 0));
  const times = stored.filter((key) => key.purpose === purpose).map(({ createdAt }) => createdAt + 1);
  return {
    kind: "serverKey",
    id: `${purpose}-${Math.max(0, ...numbers) + 1}`,
    purpose,
    secret: purpose === "token" ? await newSigningJwk() : newUrlKey(),
    createdAt: Math.max(at, ...times),
  };
}

/** An Ed25519 private key as JWK text (RFC 8037). */
async function newSigningJwk(): Promise<string> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new Error("Ed25519 did not make a key pair");
  return JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey));
}

function newUrlKey(): string {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(URL_KEY_BYTES))))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}
