/**
 * What Studio fetches in the test double: a table of URLs instead of the network. The rules of ruling 12 that need no
 * connection hold as live, and so do the meanings of statuses and the size limit.
 */

import { isIP } from "node:net";
import type { FetchUrl, OpenOptions, S3Source, SourceBody } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { addressPolicy } from "../fetch/address.ts";
import { limited } from "../fetch/transfer.ts";

/** Bytes, text, or what answers each fetch anew, with whatever status it likes. */
export type FakeSource = Uint8Array | string | (() => Response | Promise<Response>);

/** By URL, or by `s3://bucket/key`. What is not in it answers 404. */
export type FakeSources = Map<string, FakeSource>;

/** Statuses that say "not now", beside all of 5xx. */
const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 425, 429]);

export function fakeFetch(sources: FakeSources): FetchUrl & S3Source {
  const policy = addressPolicy([]);

  const admit = (url: URL): void => {
    if (url.protocol === "s3:") return;
    if (url.protocol !== "http:" && url.protocol !== "https:") {
      throw new DocyardError("policy_rejected", `Only http and https URLs can be read, not ${url.protocol}`);
    }
    if (url.username !== "" || url.password !== "") {
      throw new DocyardError("policy_rejected", `The URL on ${url.host} must not hold credentials`);
    }
    const host = url.hostname.replace(/^\[|\]$/g, "");
    if (host === "localhost" || (isIP(host) !== 0 && !policy.isPublic(host))) {
      throw new DocyardError("policy_rejected", `${host} is not an address that may be read`);
    }
    // A port that is its scheme's own is not told.
    if (url.port !== "" && url.port !== "80" && url.port !== "443") {
      throw new DocyardError("policy_rejected", `Port ${url.port} of ${host} may not be read`);
    }
  };

  const open = async (text: string, { sizeMax, signal }: OpenOptions): Promise<SourceBody> => {
    signal?.throwIfAborted();
    const url = URL.parse(text);
    if (url === null) throw new DocyardError("invalid_argument", "url must be an absolute URL");
    admit(url);
    const response = await answerOf(sources.get(text));
    if (response.status !== 200) {
      const permanent = response.status < 500 && !TRANSIENT_STATUSES.has(response.status);
      const code = permanent ? "source_failed" : "upstream_failed";
      throw new DocyardError(code, `${url.host} answered ${response.status}`);
    }
    const announced = response.headers.get("content-length");
    const size = announced === null ? null : Number(announced);
    if (size !== null && size > sizeMax) {
      throw new DocyardError(
        "too_large",
        `${url.host} offers ${size} bytes, more than the ${sizeMax} allowed`,
      );
    }
    return {
      size,
      contentType: response.headers.get("content-type"),
      body: limited(response.body ?? empty(), sizeMax, url),
    };
  };

  return {
    // The third argument of S3, its credentials, is not looked at: a double has no secrets to check them against.
    open: (text: string, ...rest: readonly [OpenOptions] | readonly [string, OpenOptions]) =>
      open(text, rest.length === 1 ? rest[0] : rest[1]),
    close: async () => {},
  };
}

async function answerOf(source: FakeSource | undefined): Promise<Response> {
  if (source === undefined) return new Response(null, { status: 404 });
  if (typeof source === "function") return source();
  const bytes = typeof source === "string" ? new TextEncoder().encode(source) : new Uint8Array(source);
  return new Response(bytes, { headers: { "Content-Length": String(bytes.byteLength) } });
}

async function* empty(): AsyncGenerator<Uint8Array, void, void> {}
