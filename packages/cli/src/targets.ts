/**
 * What `--db`, `--blob` and `--queue` name: which driver, and the options that are written into its name. Nothing is
 * opened and no driver is loaded here, so that whoever only reads or tries a target need not; drivers.ts opens them.
 */

import type { S3BlobsOptions } from "@docyard/adapters/blob/s3";
import type { PostgresStoreOptions } from "@docyard/adapters/store/postgres";
import { UsageError } from "./failure.ts";

/** Connections of one process to PostgreSQL: more than any server has use for, and so a slip of the finger. */
const CONNECTIONS_MAX = 1_000;

/** The word that chooses a driver: all before the first colon. */
export function schemeOf(target: string): string {
  const scheme = target.split(":", 1)[0]!.toLowerCase();
  return scheme === "postgresql" ? "postgres" : scheme;
}

/** Anything that is no URL and not the word `memory` is a folder, `./memory` among them. */
export function blobScheme(target: string): string {
  return target === "memory" || /^[a-z][a-z0-9+.-]*:\/\//i.test(target) ? schemeOf(target) : "folder";
}

/** `sqlite`, `sqlite:FILE` and `sqlite:///FILE` (an absolute path, as other programs write it). */
export function sqliteFile(target: string): string {
  const file = target.slice("sqlite:".length).replace(/^\/\/(?=\/)/, "");
  if (file.startsWith("//")) throw new UsageError(`--db ${target}: write sqlite:FILE or sqlite:/FILE`);
  return file === "" ? "./docyard.db" : file;
}

/** The two parts of the query that are ours; all else is the client library's (`sslmode`, `host`, …). */
export function postgresOptions(target: string): PostgresStoreOptions {
  const url = URL.parse(target);
  // What is no URL, the library says in its own words.
  if (url === null) return { url: target };
  const take = (name: string): string | null => {
    const value = url.searchParams.get(name);
    // Not where there is none: the rest would be written anew for nothing.
    if (value !== null) url.searchParams.delete(name);
    return value;
  };
  const connections = take("connections");
  const prepare = take("prepare");
  const connectionsMax = Number(connections ?? 1);
  if (!(Number.isInteger(connectionsMax) && connectionsMax >= 1 && connectionsMax <= CONNECTIONS_MAX)) {
    throw new UsageError(`--db: connections= is a whole number from 1 to ${CONNECTIONS_MAX}`);
  }
  if (!["true", "false", null].includes(prepare)) throw new UsageError("--db: prepare= is true or false");
  return {
    url: connections === null && prepare === null ? target : url.href,
    ...(connections === null ? {} : { connectionsMax }),
    ...(prepare === null ? {} : { prepare: prepare === "true" }),
  };
}

/** Credentials come from where AWS's own tools take them, never from the command line, where every user can read them. */
export function s3Options(target: string): S3BlobsOptions {
  const url = URL.parse(target);
  if (url === null || url.hostname === "") throw new UsageError("--blob: write s3://BUCKET[/PREFIX]");
  if (url.username !== "" || url.password !== "") {
    throw new UsageError(
      "--blob: credentials do not belong here: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    );
  }
  const known = new Set(["endpoint", "region", "publicEndpoint"]);
  for (const name of url.searchParams.keys()) {
    if (!known.has(name))
      throw new UsageError(`--blob: unknown part ${name}= (choose from: ${[...known].join(", ")})`);
  }
  const given = (name: "endpoint" | "region" | "publicEndpoint") => {
    const value = url.searchParams.get(name);
    return value === null || value === "" ? {} : { [name]: value };
  };
  const prefix = decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, "");
  return {
    // Not `hostname`, which is lower-cased: old buckets may have capitals.
    bucket: /^s3:\/\/([^/?#]+)/i.exec(target)![1]!,
    ...(prefix === "" ? {} : { prefix }),
    ...given("endpoint"),
    ...given("region"),
    ...given("publicEndpoint"),
  };
}

/**
 * A target as errors may show it: without a query, and without what stands before the last `@`. Whoever sees one has
 * often written a password that is no URL: with a slash, a question mark or an `@` of its own.
 */
export function withoutSecrets(target: string): string {
  return target.replace(/^((?!sqlite:)\w+:)\/*.*@/is, "$1//…@").replace(/\?.*$/s, "");
}
