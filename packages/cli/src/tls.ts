/**
 * The certificate that the listener serves HTTPS with: read and checked, kept up to date while the server runs, and
 * complained about before it expires. What a connection does with it is listen.ts's; files are never written here.
 */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { TlsOptions } from "node:tls";
import type { Logger } from "@docyard/server";
import type { Config } from "./config.ts";
import { Failure, reasonOf, UsageError } from "./failure.ts";

/** Paths of PEM files: the chain with the server's own certificate first, and its private key. */
export interface PairFiles {
  readonly cert: string;
  readonly key: string;
}

/** A certificate and its key, known to fit each other and to be valid now. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
  /** Milliseconds since 1970 UTC. */
  readonly expiresAt: number;
  /** What the files looked like just before they were read: other looks mean another pair. */
  readonly looks: string;
}

/** Bytes: a long chain takes a tenth of it, and whatever is larger is not the file that was meant. */
const FILE_BYTES_MAX = 1024 * 1024;
const DAY_MS = 24 * 3_600_000;
/** An automatic renewal comes at 30 days: later than that, nothing renews by itself. */
const EXPIRES_SOON_MS = 30 * DAY_MS;
/** Milliseconds between two looks at whether the files are other ones. */
const LOOK_EVERY_MS = 10_000;

/**
 * TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption: Mozilla's "intermediate" list without
 * finite-field Diffie-Hellman.
 */
const CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** What every connection is offered, the first one's certificate and any later one's. */
export function contextOptions({ cert, key }: Pick<Pair, "cert" | "key">): TlsOptions {
  return { cert, key, ciphers: CIPHERS, minVersion: "TLSv1.2" };
}

/**
 * The files as configured; null: plain HTTP.
 * @throws UsageError for one without the other.
 */
export function pairFilesOf({
  tlsCert: cert,
  tlsKey: key,
}: Pick<Config, "tlsCert" | "tlsKey">): PairFiles | null {
  if (cert === "" && key === "") return null;
  if (key === "") throw new UsageError("--tls-cert needs --tls-key beside it");
  if (cert === "") throw new UsageError("--tls-key needs --tls-cert beside it");
  return { cert, key };
}

/**
 * Reads and checks both files.
 * @throws Failure in words for an operator, without a byte of the key.
 */
export async function readPair(files: PairFiles, now: number = Date.now()): Promise<Pair> {
  const looks = await looksOf(files);
  const [cert, key] = [await readPem("--tls-cert", files.cert), await readPem("--tls-key", files.key)];
  const leaf = parseCertificate(files.cert, cert);
  const privateKey = parseKey(files.key, key);
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new Failure(
      `--tls-key ${files.key} does not belong to the first certificate in ${files.cert} (the server's own comes first, then its chain)`,
    );
  }
  const [from, to] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
  if (to <= now) throw new Failure(`--tls-cert ${files.cert} has expired on ${dayOf(to)}`);
  if (from > now)
    throw new Failure(`--tls-cert ${files.cert} is not valid before ${new Date(from).toISOString()}`);
  const pair = { cert, key, expiresAt: to, looks };
  const { createSecureContext } = await import("node:tls");
  try {
    // What OpenSSL will not serve (a key too short, a chain that is not PEM) is found here and not by the first client.
    createSecureContext(contextOptions(pair));
  } catch (error) {
    throw new Failure(`--tls-cert ${files.cert} cannot be used: ${reasonOf(error)}`, { cause: error });
  }
  return pair;
}

export interface KeptPair {
  /** Of the pair in use, in milliseconds since 1970 UTC. */
  readonly expiresAt: () => number;
  /** Reads the files now, whatever they look like. Resolves when the new pair serves, or the old one stays. */
  readonly reload: () => Promise<void>;
  close(): void;
}

export interface KeepOptions {
  /** Makes connections from now on use it. */
  readonly use: (pair: Pair) => void;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
  /** Milliseconds. Default 10 s. */
  readonly lookEveryMs?: number;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
}

/**
 * Keeps `pair` in step with its files. They are looked at by path, so that a file replaced by rename or a link that
 * leads elsewhere (certbot, Kubernetes) counts as much as one written in place. A pair that does not pass `readPair`
 * changes nothing.
 */
export function keepPair(files: PairFiles, pair: Pair, options: KeepOptions): KeptPair {
  const { use, log, lookEveryMs = LOOK_EVERY_MS, now = Date.now } = options;
  let current = pair;
  /** What the files looked like when they were last tried, and what they look like since if it differs. */
  let tried = pair.looks;
  let changed: string | null = null;
  let last: Promise<void> = Promise.resolve();

  const load = async (): Promise<void> => {
    tried = await looksOf(files);
    changed = null;
    try {
      current = await readPair(files, now());
      use(current);
    } catch (error) {
      log.error({ reason: reasonOf(error) }, "certificate not reloaded: the old one stays in use");
      return;
    }
    log.info({ expires: new Date(current.expiresAt).toISOString() }, "certificate reloaded");
    warnInTime();
  };

  /** Two files are never replaced at once: a change is acted upon when it looks the same twice. */
  const look = async (): Promise<void> => {
    const looks = await looksOf(files);
    if (looks === tried) changed = null;
    else if (looks === changed) await load();
    else changed = looks;
  };

  /** One after the other, or an older pair could overtake a newer one. */
  const inTurn = (work: () => Promise<void>): Promise<void> => (last = last.then(work));

  const warnInTime = (): void => {
    const left = current.expiresAt - now();
    if (left > EXPIRES_SOON_MS) return;
    const fields = { expires: new Date(current.expiresAt).toISOString(), days: Math.floor(left / DAY_MS) };
    if (left > 0) log.warn(fields, "certificate expires soon");
    else log.error(fields, "certificate has expired: clients refuse this server");
  };

  const looking = setInterval(() => void inTurn(look), lookEveryMs);
  const warning = setInterval(warnInTime, DAY_MS);
  for (const timer of [looking, warning]) timer.unref();
  warnInTime();
  return {
    expiresAt: () => current.expiresAt,
    reload: () => inTurn(load),
    close() {
      clearInterval(looking);
      clearInterval(warning);
    },
  };
}

async function readPem(flag: string, path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > FILE_BYTES_MAX) throw new Error("too large for a PEM file");
    return await readFile(path, "latin1");
  } catch (error) {
    throw new Failure(`${flag} ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

function parseCertificate(path: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    // OpenSSL's own words are about its insides.
    throw new Failure(`--tls-cert ${path} holds no certificate in PEM form`);
  }
}

function parseKey(path: string, pem: string): KeyObject {
  if (/^-----BEGIN ENCRYPTED |^Proc-Type: .*ENCRYPTED/m.test(pem)) {
    throw new Failure(
      `--tls-key ${path} is encrypted: write it without a passphrase, readable by this server alone`,
    );
  }
  try {
    return createPrivateKey(pem);
  } catch {
    // Without the cause: nothing that has seen the key goes into a message or a stack.
    throw new Failure(`--tls-key ${path} holds no private key in PEM form`);
  }
}

/** Changes whenever another file stands at either path, or the same one is written. */
async function looksOf({ cert, key }: PairFiles): Promise<string> {
  const looks = [cert, key].map((path) =>
    stat(path).then(
      ({ ino, size, mtimeMs }) => `${ino} ${size} ${mtimeMs}`,
      () => "absent",
    ),
  );
  return (await Promise.all(looks)).join(", ");
}

function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
