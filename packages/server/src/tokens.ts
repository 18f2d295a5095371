/**
 * Access tokens: Ed25519-signed JWTs behind the vendor's prefix, made and checked with the server's shared keys.
 * Says who a token was given to and with what scopes; what that client may do today is asked of core each time.
 */

import type { Principal, Provisioning, ServerKey } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { CryptoKey, JWK, JWTPayload } from "jose";
import { decodeProtectedHeader, errors, importJWK, jwtVerify, SignJWT } from "jose";

/** Clients treat the whole as opaque (contract 28). */
export const TOKEN_PREFIX = "dyt_live_";
/** Default life of a token: 1 h (contract 1E). */
export const TOKEN_TTL_MS = 3_600_000;

const ALGORITHM = "EdDSA";
/** RFC 9068: keeps other JWTs that may one day be signed with these keys from passing as access tokens. */
const TYPE = "at+jwt";
/** Longest token looked at, in characters; ours have about 500. */
const TOKEN_LENGTH_MAX = 4_096;
/** Verified tokens remembered: a signature check costs more than everything else in a request. */
const VERIFIED_MAX = 10_000;
/** Age from which keys are read again before signing, so that a new key is taken up: 5 min. */
const KEYS_AGE_MAX_MS = 300_000;
/** Unknown key ids cause at most one read in so long: anyone can invent them. */
const KEYS_MISS_MIN_MS = 1_000;

/** What a verified token says. */
export interface TokenClaims {
  /** `mc_…` */
  readonly clientId: string;
  readonly scopes: readonly string[];
}

export interface IssuedToken {
  readonly accessToken: string;
  /** Whole seconds. */
  readonly expiresIn: number;
}

export interface Tokens {
  issue(principal: Principal): Promise<IssuedToken>;
  /** @throws DocyardError `unauthenticated` for anything that is not a valid token of this server, now. */
  verify(token: string): Promise<TokenClaims>;
  /** The public halves of all keys, for `/.well-known/jwks.json`. */
  jwks(): Promise<{ readonly keys: readonly JWK[] }>;
}

export interface TokensOptions {
  readonly keys: Pick<Provisioning, "serverKeys">;
  /** Tokens name it as their issuer and, with `/v1/machine`, as their audience; without a trailing slash. */
  readonly issuer: () => string;
  /** Default 1 h. */
  readonly ttlMs?: number;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
}

interface Verified extends TokenClaims {
  readonly issuer: string;
  readonly keyId: string;
  readonly expiresAt: number;
}

export function createTokens({ keys, issuer, ttlMs = TOKEN_TTL_MS, now = Date.now }: TokensOptions): Tokens {
  const ring = createKeyRing(keys, now);
  /** By the whole token, oldest first. */
  const verified = new Map<string, Verified>();

  const remember = (token: string, entry: Verified): void => {
    if (verified.size >= VERIFIED_MAX) {
      const oldest = verified.keys().next();
      if (oldest.done !== true) verified.delete(oldest.value);
    }
    verified.set(token, entry);
  };

  const check = async (token: string): Promise<Verified> => {
    const jwt = token.slice(TOKEN_PREFIX.length);
    const keyId = keyIdOf(jwt);
    const key = keyId === null ? undefined : await ring.find(keyId);
    if (keyId === null || key === undefined) throw invalidToken();
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(jwt, key.publicKey, {
        algorithms: [ALGORITHM],
        typ: TYPE,
        issuer: issuer(),
        audience: audienceOf(issuer()),
        requiredClaims: ["sub", "exp", "iat", "jti", "scope"],
        currentDate: new Date(now()),
      }));
    } catch (error) {
      if (error instanceof errors.JOSEError) throw invalidToken();
      throw error;
    }
    const { sub, exp, scope } = payload;
    if (sub === undefined || exp === undefined || typeof scope !== "string") throw invalidToken();
    return {
      clientId: sub,
      scopes: scope.split(" "),
      issuer: issuer(),
      keyId,
      expiresAt: exp * 1_000,
    };
  };

  return {
    async issue(principal) {
      const key = await ring.newest();
      const issuedAt = Math.floor(now() / 1_000);
      const expiresIn = Math.floor(ttlMs / 1_000);
      const jwt = await new SignJWT({ scope: principal.scopes.join(" ") })
        .setProtectedHeader({ alg: ALGORITHM, typ: TYPE, kid: key.id })
        .setIssuer(issuer())
        .setAudience(audienceOf(issuer()))
        .setSubject(principal.id)
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + expiresIn)
        .setJti(crypto.randomUUID())
        .sign(key.privateKey);
      return { accessToken: TOKEN_PREFIX + jwt, expiresIn };
    },

    async verify(token) {
      if (!token.startsWith(TOKEN_PREFIX) || token.length > TOKEN_LENGTH_MAX) throw invalidToken();
      const known = verified.get(token);
      if (known !== undefined) {
        if (known.expiresAt > now() && known.issuer === issuer() && ring.has(known.keyId)) return known;
        verified.delete(token);
      }
      const entry = await check(token);
      remember(token, entry);
      return entry;
    },

    async jwks() {
      return { keys: (await ring.all()).map(({ publicJwk }) => publicJwk) };
    },
  };
}

function audienceOf(issuer: string): string {
  return `${issuer}/v1/machine`;
}

/** One message for every reason: an attacker learns nothing from which check failed. */
function invalidToken(): DocyardError {
  return new DocyardError("unauthenticated", "Invalid or expired token");
}

function keyIdOf(jwt: string): string | null {
  try {
    const { kid } = decodeProtectedHeader(jwt);
    return typeof kid === "string" ? kid : null;
  } catch {
    return null; // no JWT
  }
}

interface SigningKey {
  readonly id: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly publicJwk: JWK;
}

interface KeyRing {
  /** Of the keys as they were last read. */
  has(id: string): boolean;
  /** Looks again in the store when the id is unknown, but not at every invented id. */
  find(id: string): Promise<SigningKey | undefined>;
  newest(): Promise<SigningKey>;
  all(): Promise<readonly SigningKey[]>;
}

/** The server's token keys, read from the store when first needed, when stale, and when another replica has a new one. */
function createKeyRing(source: Pick<Provisioning, "serverKeys">, now: () => number): KeyRing {
  let keys: ReadonlyMap<string, SigningKey> = new Map();
  let readAt = Number.NEGATIVE_INFINITY;
  let missedAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | null = null;

  const read = (): Promise<void> => {
    reading ??= (async () => {
      try {
        const stored = await source.serverKeys("token");
        const imported = await Promise.all(stored.map(importKey));
        keys = new Map(imported.map((key) => [key.id, key]));
        readAt = now();
      } finally {
        reading = null;
      }
    })();
    return reading;
  };

  /** True also when the clock was set back: then nobody knows how old anything is. */
  const olderThan = (at: number, ageMs: number): boolean => now() - at >= ageMs || now() < at;

  const fresh = async (): Promise<void> => {
    if (olderThan(readAt, KEYS_AGE_MAX_MS)) await read();
  };

  return {
    has: (id) => keys.has(id),
    async find(id) {
      await fresh();
      if (!keys.has(id) && olderThan(missedAt, KEYS_MISS_MIN_MS)) {
        missedAt = now();
        await read();
      }
      return keys.get(id);
    },
    async newest() {
      await fresh();
      const [first] = keys.values();
      if (first === undefined) throw new Error("there is no token key");
      return first;
    },
    async all() {
      await fresh();
      return [...keys.values()];
    },
  };
}

async function importKey({ id, secret }: ServerKey): Promise<SigningKey> {
  const jwk = JSON.parse(secret) as JWK;
  const { kty, crv, x, d } = jwk;
  if (kty !== "OKP" || crv !== "Ed25519" || x === undefined || d === undefined) {
    throw new Error(`server key ${id} is not an Ed25519 private key`);
  }
  const publicPart = { kty, crv, x };
  const [privateKey, publicKey] = await Promise.all([
    importJWK({ ...publicPart, d }, ALGORITHM),
    importJWK(publicPart, ALGORITHM),
  ]);
  if (privateKey instanceof Uint8Array || publicKey instanceof Uint8Array) {
    throw new TypeError(`server key ${id} did not import as a key pair`);
  }
  return {
    id,
    privateKey,
    publicKey,
    publicJwk: { ...publicPart, kid: id, use: "sig", alg: ALGORITHM },
  };
}
