/**
 * The URLs of a store that serves itself, with keys that may change while it is open: the newest signs, and every one
 * in force redeems. What a signature covers is in `signed-url.ts`; when keys are read again is core's.
 */

import type { Newest, SignedUrl, SignGetOptions, SigningKeys, SignPutOptions } from "@docyard/core";
import { createSigningKeys, DocyardError } from "@docyard/core";
import type { GetTicket, PutTicket, UrlSigner, UrlSignerOptions } from "./signed-url.ts";
import { createUrlSigner } from "./signed-url.ts";

/**
 * The bytes of one key; or, where keys are rotated, what reads all that are in force, newest first. It is called when
 * they are first needed, and as `SigningKeys` says.
 */
export type UrlSecret = Uint8Array | (() => Promise<readonly Uint8Array[]>);

export interface UrlsOptions extends Omit<UrlSignerOptions, "secret"> {
  readonly secret: UrlSecret;
}

export interface Urls {
  /** A promise only where keys have to be read first: a list signs a URL for each of its rows. */
  signPut(key: string, options: SignPutOptions): SignedUrl | Promise<SignedUrl>;
  /** As `signPut`. */
  signGet(key: string, options: SignGetOptions): SignedUrl | Promise<SignedUrl>;
  /**
   * What a request's method and target (path and query, or an absolute URL) prove to be for.
   * @throws DocyardError `permission_denied` unless it is exactly a URL that a key in force signed, and has not expired.
   */
  redeem(method: string, target: string): Promise<PutTicket | GetTicket>;
  /** Reads the keys if they are not known, so that a store which could sign nothing need not open. */
  ready(): Promise<void>;
}

/** @throws TypeError for a key that is too short; where keys are read, from whatever needs them. */
export function createUrls({ baseUrl, secret, now }: UrlsOptions): Urls {
  const signerOf = (bytes: Uint8Array): UrlSigner => createUrlSigner({ baseUrl, secret: bytes, now });
  const keys =
    typeof secret === "function"
      ? createSigningKeys({ read: async () => (await secret()).map(signerOf), now })
      : only(signerOf(secret));

  const withNewest = (sign: (signer: UrlSigner) => SignedUrl): SignedUrl | Promise<SignedUrl> => {
    const known = keys.current();
    return known instanceof Promise ? known.then(([newest]) => sign(newest)) : sign(known[0]);
  };

  return {
    signPut: (key, options) => withNewest((signer) => signer.signPut(key, options)),
    signGet: (key, options) => withNewest((signer) => signer.signGet(key, options)),
    async redeem(method, target) {
      const known = await keys.current();
      const ticket = redeemWith(known, method, target);
      if (ticket !== null) return ticket;
      // Another replica may have a key that is newer.
      const latest = await keys.again();
      const late = latest === known ? null : redeemWith(latest, method, target);
      if (late !== null) return late;
      throw new DocyardError(
        "permission_denied",
        "The signature of this URL is not valid: use it whole, with PUT to upload and GET to download",
      );
    },
    async ready() {
      await keys.current();
    },
  };
}

/** One key for good. */
function only(signer: UrlSigner): SigningKeys<UrlSigner> {
  const keys: Newest<UrlSigner> = [signer];
  return { current: () => keys, again: async () => keys };
}

function redeemWith(
  signers: Newest<UrlSigner>,
  method: string,
  target: string,
): PutTicket | GetTicket | null {
  for (const signer of signers) {
    const ticket = signer.redeem(method, target);
    if (ticket !== null) return ticket;
  }
  return null;
}
