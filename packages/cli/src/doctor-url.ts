/**
 * Asks the public URL what clients would ask: is docyard there, is it this one, and does what stands before it let
 * uploads through? Whether the world outside reaches it, only the world outside can tell.
 */

import type { Finding } from "@docyard/adapters/probe";
import { clockFinding, failing, ok, warning } from "@docyard/adapters/probe";
import type { Config } from "./config.ts";
import { reasonOf } from "./failure.ts";
import { blobScheme } from "./targets.ts";
import { VERSION } from "./version.ts";

/** How long a request may take, in milliseconds. */
const TIMEOUT_MS = 5_000;
/** Proxies are often set to 1 MiB: a body beyond that shows it. */
const BODY_BYTES = 2 * 1024 ** 2;
const LOOPBACK = /^(localhost|127\.|\[::1\])/;

export async function probePublicUrl({ publicUrl: url, blob }: Config): Promise<Finding[]> {
  if (url === null) {
    return [
      warning(
        "address",
        "not set: signed URLs begin with the host and port",
        "set --public-url to where clients reach this server",
      ),
    ];
  }
  const asked = Date.now();
  let answer: Response;
  let body: unknown;
  try {
    answer = await fetch(`${url}/v1/healthz`, {
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    body = await answer.json().catch(() => null);
  } catch (error) {
    const reason = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return [failing("reach", `${url} does not answer: ${reasonOf(reason)}`, fixFor(reason))];
  }
  const answered = Date.now();
  const { status, version } = (body ?? {}) as { readonly status?: unknown; readonly version?: unknown };
  if (answer.status !== 200 || status !== "ok" || typeof version !== "string") {
    return [
      failing(
        "reach",
        `${url} is answered by something else (${answer.status})`,
        "correct --public-url, or make the proxy there hand requests to docyard",
      ),
    ];
  }
  const date = Date.parse(answer.headers.get("date") ?? "");
  return [
    ok("reach", `${url} is docyard, from this machine`),
    version === VERSION
      ? ok("version", version)
      : warning("version", `${version} serves there, and this is ${VERSION}`, "upgrade the older one"),
    secrecy(url),
    ...(Number.isNaN(date) ? [] : [clockFinding(date, asked, answered, 1_000)]),
    // A bucket takes the bytes itself.
    ...(blobScheme(blob) === "s3" ? [] : [await bodies(url)]),
  ];
}

/** An upload that is refused for its signature has come through; one refused for its size has not. */
async function bodies(url: string): Promise<Finding> {
  const fix =
    "let the proxy pass bodies of --max-size (nginx: client_max_body_size 0; proxy_request_buffering off)";
  try {
    const answer = await fetch(`${url}/v1/blobs/doctor`, {
      method: "PUT",
      body: new Uint8Array(BODY_BYTES),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await answer.body?.cancel();
    return answer.status === 413
      ? failing("uploads", "the proxy before docyard refuses large bodies", fix)
      : ok("uploads", "bodies of 2 MiB come through");
  } catch {
    // docyard may refuse before it has read all, and close: that is an answer, too.
    return ok("uploads", "refused before they are read, as unsigned ones should be");
  }
}

function secrecy(url: string): Finding {
  const { protocol, hostname } = new URL(url);
  return protocol === "https:" || LOOPBACK.test(hostname)
    ? ok("secrecy", protocol === "https:" ? "https" : "this machine alone")
    : warning("secrecy", "tokens and bytes travel in the clear", "put a proxy with https before docyard");
}

function fixFor(reason: unknown): string {
  const code = reason instanceof Error && "code" in reason ? String(reason.code) : "";
  if (code === "ECONNREFUSED") return "start the server, or the proxy before it";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return "make its name known (DNS), or correct --public-url";
  if (code.includes("CERT") || code.includes("SIGNED"))
    return "give the proxy a certificate that clients trust";
  return "correct --public-url, or open the way to it";
}
