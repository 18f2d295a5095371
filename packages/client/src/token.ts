/** Access tokens of one machine client (RFC 6749 section 4.4): got when first needed, shared, and renewed in time. */

import { DocyardApiError } from "./errors.ts";
import type { Call, Connection } from "./http.ts";
import { isToken, repeatedCall } from "./http.ts";
import { until } from "./retry.ts";

/** What a client may be allowed to do. A server may know more than this package. */
export type Scope = "artifacts:read" | "artifacts:write" | (string & {});

export interface TokenOptions {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scopes?: readonly Scope[] | undefined;
}

export interface Tokens {
  /** One request serves all who wait for it. A caller's signal ends that caller's wait; the last one's, the request. */
  get(signal?: AbortSignal): Promise<string>;
  /** This one was refused: the next `get` asks for another, unless one has come meanwhile. */
  drop(token: string): void;
}

/** Renewed so long before its end, in milliseconds, or a tenth of its life if that is less. */
const MARGIN_MS = 60_000;
/** Believed where the server does not say, in seconds. */
const LIFE_DEFAULT_S = 300;

/** Believed only after a look. */
interface TokenAnswer {
  readonly access_token?: unknown;
  /** Seconds. */
  readonly expires_in?: unknown;
}

/** A request for a token, and how many wait for it. It ends when nobody does any more. */
interface Renewal {
  readonly token: Promise<string>;
  waiting: number;
  abandon(): void;
}

export function createTokens(to: Connection, baseUrl: string, options: TokenOptions): Tokens {
  let current: { readonly token: string; readonly renewAt: number } | null = null;
  let pending: Renewal | null = null;
  const request: Call = {
    method: "POST",
    path: "/v1/oauth/token",
    json: {
      grant_type: "client_credentials",
      client_id: options.clientId,
      client_secret: options.clientSecret,
      ...(options.scopes === undefined ? {} : { scope: options.scopes.join(" ") }),
    },
  };

  /** An answer that is lost costs one token that nobody uses. */
  const renew = async (signal: AbortSignal): Promise<string> => {
    const askedAt = to.now();
    const { body, status } = await repeatedCall<TokenAnswer>(to, baseUrl, { ...request, signal });
    const { access_token: token, expires_in: life = LIFE_DEFAULT_S } = body;
    if (!isToken(token) || typeof life !== "number") {
      throw new DocyardApiError("protocol", "The token endpoint answered without a token", { status });
    }
    const lifeMs = life * 1_000;
    current = { token, renewAt: askedAt + lifeMs - Math.min(MARGIN_MS, lifeMs / 10) };
    return token;
  };

  const begin = (): Renewal => {
    const controller = new AbortController();
    const forget = (): void => {
      if (pending === renewal) pending = null;
    };
    const renewal: Renewal = {
      token: renew(controller.signal).finally(forget),
      waiting: 0,
      abandon() {
        forget();
        controller.abort();
      },
    };
    return renewal;
  };

  return {
    async get(signal) {
      if (current !== null && to.now() < current.renewAt) return current.token;
      const shared = (pending ??= begin());
      shared.waiting += 1;
      try {
        return await until(signal, shared.token);
      } finally {
        shared.waiting -= 1;
        if (shared.waiting === 0) shared.abandon();
      }
    },
    drop(token) {
      if (current?.token === token) current = null;
    },
  };
}
