/** What it takes to sign the URLs of a page of the largest size: a list does it for every row, in the main thread. */

import { createUrlSigner } from "../../../packages/adapters/src/blob/signed-url.ts";
import { facts } from "./facts.ts";

const URLS = 1_000;
const PAGES = 50;

/** Milliseconds for 1,000 URLs, page after page. */
export function signPages(): number[] {
  const signer = createUrlSigner({
    baseUrl: "http://127.0.0.1:8080",
    secret: new Uint8Array(32).fill(7),
    now: Date.now,
  });
  const artifacts = Array.from({ length: URLS }, (_, i) => facts(i + 1));
  return Array.from({ length: PAGES }, () => {
    const from = performance.now();
    const expiresAt = Date.now() + 3_600_000;
    for (const { id, filename, size, digest } of artifacts) {
      signer.signGet(`docks/dock_default/artifacts/2026-01-01/00/${id.slice(4)}-${digest}`, {
        expiresAt,
        filename,
        contentType: "application/pdf",
        size,
        digest,
        artifactId: id,
        principalId: "mc_bench",
      });
    }
    return performance.now() - from;
  });
}
