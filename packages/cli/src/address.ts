/**
 * The address that a server listens on, as others write it: in a URL, and to ask this machine's own server. What is
 * done at an address is listen.ts's affair.
 */

import { isIP } from "node:net";
import type { Config } from "./config.ts";

/** `http://HOST:PORT`, or `https:` with a certificate, where every address is written as this machine's own. */
export function defaultPublicUrl({ host, tlsCert }: Pick<Config, "host" | "tlsCert">, port: number): string {
  const name = isEveryAddress(host) ? "localhost" : isIP(host) === 6 ? `[${host}]` : host;
  return `${tlsCert === "" ? "http" : "https"}://${name}:${port}`;
}

export function isEveryAddress(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}
