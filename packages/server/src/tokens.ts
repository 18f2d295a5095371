/**
 * Access tokens: Ed25519-signed JWTs behind the vendor's prefix, made and checked with the server's shared keys.
 * Says who a token was given to and with what scopes; what that client may do today is asked of core each time.
 */

import type { Principal, Provisioning, ServerKey } from "@docyard/core";
import { createSigningKeys, DocyardError } from "@docyard/core";
import type { CryptoKey, JWK, JWTPayload } from "jose";
import { decodeProtectedHeader, errors, importJWK, jwtVerify, SignJWT } from "jose";

/** Clients treat the whole as opaque (contract 28). */
const TOKEN_PREFIX = "dyt_live_";
/** Default life of a token: 1 h (contract 1E). */
const TOKEN_TTL_MS = 3_600_000;

const ALGORITHM = "EdDSA";
/**
 * RFC 9068, with every claim that it asks for: services check our tokens with libraries. Keeps other JWTs that may one
 * day be signed with these keys from passing as access tokens.
 */
const TYPE = "at+jwt";
/** Longest token looked at, in characters; ours have about 500. */
const TOKEN_LENGTH_MAX = 4_096;
/** Verified tokens remembered: a signature check costs more than everything else in a request. */
const VERIFIED_MAX = 10_000;

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
  /** @param oauthClientId what the client called itself at the token endpoint: `dyc_…` */
  issue(principal: Principal, oauthClientId: string): Promise<IssuedToken>;
  /**
   * A promise only where there is something to wait for: most tokens have been verified before.
   * @throws DocyardError `unauthenticated` for anything that is not a valid token of this server, now.
   */
  verify(token: string): TokenClaims | Promise<TokenClaims>;
  /** The public halves of all keys in force, for `/.well-known/jwks.json`. */
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
  const signing = createSigningKeys({
    read: async () => Promise.all((await keys.serverKeys("token")).map(importKey)),
    now,
  });
  /** By the whole token, oldest first. */
  const verified = new Map<string, Verified>();

  const remember = (token: string, entry: Verified): void => {
    if (verified.size >= VERIFIED_MAX) {
      const oldest = verified.keys().next();
      if (oldest.done !== true) verified.delete(oldest.value);
    }
    verified.set(token, entry);
  };

  const keyOf = async (id: string): Promise<SigningKey | undefined> => {
    const isIt = (key: SigningKey): boolean => key.id === id;
    return (await signing.current()).find(isIt) ?? (await signing.again()).find(isIt);
  };

  const check = async (token: string): Promise<Verified> => {
    const jwt = token.slice(TOKEN_PREFIX.length);
    const keyId = keyIdOf(jwt);
    const key = keyId === null ? undefined : await keyOf(keyId);
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

  const isGood = (known: Verified, keys: readonly SigningKey[]): boolean =>
    keys.some(({ id }) => id === known.keyId) && known.expiresAt > now() && known.issuer === issuer();

  const verifyAnew = async (token: string): Promise<Verified> => {
    if (!token.startsWith(TOKEN_PREFIX) || token.length > TOKEN_LENGTH_MAX) throw invalidToken();
    verified.delete(token);
    const entry = await check(token);
    remember(token, entry);
    return entry;
  };

  return {
    async issue(principal, oauthClientId) {
      const [key] = await signing.current();
      const issuedAt = Math.floor(now() / 1_000);
      const expiresIn = Math.floor(ttlMs / 1_000);
      const jwt = await new SignJWT({ scope: principal.scopes.join(" "), client_id: oauthClientId })
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

    verify(token) {
      const known = verified.get(token);
      if (known === undefined) return verifyAnew(token);
      const keys = signing.current();
      if (keys instanceof Promise)
        return keys.then((read) => (isGood(known, read) ? known : verifyAnew(token)));
      return isGood(known, keys) ? known : verifyAnew(token);
    },

    async jwks() {
      return { keys: (await signing.current()).map(({ publicJwk }) => publicJwk) };
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
