/**
 * Who is calling: bearer tokens on resources, client credentials at the token endpoint, each in the forms that
 * RFC 6749 and RFC 6750 know. Whether the caller may is left to core.
 */

import type { Docyard, Principal } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { AppContext } from "./exchange.ts";
import type { Tokens } from "./tokens.ts";

const REALM = 'realm="docyard"';
const BEARER_CHALLENGE = `Bearer ${REALM}`;
const INVALID_TOKEN = `${BEARER_CHALLENGE}, error="invalid_token"`;
const INSUFFICIENT_SCOPE = `${BEARER_CHALLENGE}, error="insufficient_scope"`;
export const BASIC_CHALLENGE: string = `Basic ${REALM}, charset="UTF-8"`;

const BEARER = /^bearer +([\w.~+/=-]+) *$/i;
const BASIC = /^basic +([\w+/=-]+) *$/i;

/**
 * The caller behind the request's bearer token, as it is now: a deactivated client is refused at once.
 * @throws DocyardError `unauthenticated`; the answer then carries a challenge, as does a 403 later on (RFC 6750
 *   section 3).
 */
export async function authenticate(c: AppContext, docyard: Docyard, tokens: Tokens): Promise<Principal> {
  const claims = await tokens.verify(
    bearerOf(c, "Missing access token: send Authorization: Bearer dyt_live_…"),
  );
  const principal = await docyard.principal(claims.clientId, claims.scopes);
  const exchange = c.get("exchange");
  exchange.principalId = principal.id;
  exchange.challenge = INSUFFICIENT_SCOPE;
  return principal;
}

/**
 * What stands behind `Bearer`, empty for another scheme; the answer carries a challenge if it is refused from here on.
 * @param missing Says what to send.
 * @throws DocyardError `unauthenticated` where there is no header at all.
 */
export function bearerOf(c: AppContext, missing: string): string {
  const exchange = c.get("exchange");
  const header = c.req.header("authorization");
  exchange.challenge = BEARER_CHALLENGE;
  if (header === undefined) throw new DocyardError("unauthenticated", missing);
  exchange.challenge = INVALID_TOKEN;
  return BEARER.exec(header)?.[1] ?? "";
}

export interface ClientCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/**
 * Client credentials in an `Authorization: Basic` header (RFC 6749 section 2.3.1: both parts are form-encoded first),
 * or null where there is none. Another scheme is no client credential and is ignored.
 * @throws DocyardError `unauthenticated` for a Basic header that cannot be read.
 */
export function basicCredentials(header: string | undefined): ClientCredentials | null {
  if (header === undefined || !/^basic\b/i.test(header)) return null;
  try {
    const encoded = BASIC.exec(header)?.[1] ?? "";
    const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const colon = text.indexOf(":");
    if (colon > 0) {
      return { clientId: formDecode(text.slice(0, colon)), clientSecret: formDecode(text.slice(colon + 1)) };
    }
  } catch {
    // Not base64, not UTF-8, not form-encoded: refused below in the same words.
  }
  throw new DocyardError("unauthenticated", "Invalid Authorization header: Basic credentials cannot be read");
}

/** @throws URIError for a percent sign that begins no escape. */
function formDecode(text: string): string {
  return decodeURIComponent(text.replaceAll("+", " "));
}
