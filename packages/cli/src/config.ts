/**
 * Flags, environment and config file become one checked Config; the only reader of `process.env`.
 * Knows what each option means as text; what its value opens is drivers.ts's affair.
 */

import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { delimiter, isAbsolute, join, resolve, sep } from "node:path";
import { DEFAULT_SETTINGS, type LimitRule } from "@docyard/core";
import { reasonOf, UsageError } from "./failure.ts";
import { parseDuration, parseSize, printDuration, printSize } from "./measure.ts";

export const LOG_LEVELS = ["silent", "fatal", "error", "warn", "info", "debug", "trace"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const VERIFY_READS = ["full", "chunks", "off"] as const;
export type VerifyReads = (typeof VERIFY_READS)[number];

/** Everything an operator can say. Durations are milliseconds, sizes bytes. */
export interface Config {
  readonly db: string;
  readonly blob: string;
  readonly queue: string;
  readonly host: string;
  readonly port: number;
  /** Without a trailing slash; null: follows host and port. */
  readonly publicUrl: string | null;
  /** PEM files, or empty both: plain HTTP. */
  readonly tlsCert: string;
  readonly tlsKey: string;
  /** CIDRs. */
  readonly trustedProxy: readonly string[];
  /** CIDRs. */
  readonly allowSource: readonly string[];
  readonly maxSize: number;
  readonly readOnly: boolean;
  /** Bytes. */
  readonly minFree: number;
  readonly tokenTtl: number;
  readonly urlTtl: number;
  readonly limitList: number;
  readonly limitDownload: number;
  readonly limitToken: number;
  readonly limitStudio: number;
  readonly limitStudioDaily: number;
  /** How many artifacts this process ingests at once; 0: none. */
  readonly workerConcurrency: number;
  /** Path, or empty: beside the database. */
  readonly keyFile: string;
  /** A folder, or empty: inside the blob folder, else the system's. */
  readonly scratch: string;
  /** A program or empty: media that need it are refused. */
  readonly ffmpeg: string;
  readonly verifyReads: VerifyReads;
  readonly drainTimeout: number;
  /** Makes the server a test double, on memory alone; null: it is none. */
  readonly seed: string | null;
  readonly logLevel: LogLevel;
  readonly json: boolean;
  readonly verbose: boolean;
}

export type OptionName = keyof Config;

export interface Option<T> {
  /** One sentence, for `--help`. */
  readonly describe: string;
  /** What stands after the flag in `--help`; none: a switch. */
  readonly value?: string;
  /** As text, parsed like anything an operator writes. */
  readonly default: string;
  /** A flag that may be repeated; in the environment its values are separated by commas or blanks. */
  readonly repeatable?: boolean;
  /** @throws Error that says what is expected, to go after "--flag: ". */
  readonly parse: (text: string) => T;
}

const HOUR_MS = 3_600_000;
/** Contract, section 2: tokens live 24 h at most. */
const TOKEN_TTL_MAX_MS = 24 * HOUR_MS;
/** S3 signs URLs for a week at most; the disk is no different, so that a change of store changes nothing. */
const URL_TTL_MAX_MS = 7 * 24 * HOUR_MS;
/** Larger counts say "off" better with 0. */
const LIMIT_MAX = 1_000_000_000;
const DRAIN_TIMEOUT_MAX_MS = HOUR_MS;
/** Each holds a connection and, while it joins, a thread. */
const WORKER_CONCURRENCY_MAX = 256;

/** What core does by itself, an option of the same meaning does by default. */
const { limits, sizeMax, freeMin, urlTtlMs } = DEFAULT_SETTINGS;

/** The table everything else follows: flags, environment variables, keys of the config file, help. */
export const OPTIONS: { readonly [K in OptionName]: Option<Config[K]> } = {
  db: {
    describe: "Where rows live",
    value: "STORE",
    default: "sqlite:./docyard.db",
    parse: nonEmpty,
  },
  blob: {
    describe: "Where bytes live",
    value: "STORE",
    default: "./data",
    parse: nonEmpty,
  },
  queue: { describe: "How work is announced", value: "QUEUE", default: "memory", parse: nonEmpty },
  host: {
    describe: "Address to listen on",
    value: "HOST",
    default: "127.0.0.1",
    // As URLs have it, `[::1]` is meant as well.
    parse: (text) => nonEmpty(text).replace(/^\[(.*)\]$/, "$1"),
  },
  port: {
    describe: "Port to listen on; 0 takes a free one and prints it",
    value: "PORT",
    default: "8080",
    parse: (text) => wholeNumber(text, 0, 65_535),
  },
  publicUrl: {
    describe:
      "Where clients reach this server; begins every URL it hands out (default: http://HOST:PORT, or https:)",
    value: "URL",
    default: "",
    parse: (text) => (text === "" ? null : publicUrl(text)),
  },
  tlsCert: {
    describe:
      "Certificate and its chain, PEM: serve HTTPS (HTTP/1.1). Read again when it changes and on SIGHUP, which without it stops the server",
    value: "FILE",
    default: "",
    parse: (text) => text,
  },
  tlsKey: {
    describe: "Private key of --tls-cert, PEM without a passphrase",
    value: "FILE",
    default: "",
    parse: (text) => text,
  },
  trustedProxy: {
    describe: "Proxy, as CIDR, whose X-Forwarded-For and Forwarded say who the client is; repeatable",
    value: "CIDR",
    default: "",
    repeatable: true,
    parse: cidrs,
  },
  allowSource: {
    describe: "Private network that may be fetched from, as CIDR; repeatable",
    value: "CIDR",
    default: "",
    repeatable: true,
    parse: cidrs,
  },
  maxSize: {
    describe: "Largest artifact",
    value: "SIZE",
    default: printSize(sizeMax),
    parse: (text) => size(text, 1),
  },
  readOnly: {
    describe: "Take, change and delete nothing; lists and downloads go on",
    default: "false",
    parse: yesOrNo,
  },
  minFree: {
    describe: "Space on the blob disk that uploads leave free; 0: they do not care",
    value: "SIZE",
    default: printSize(freeMin),
    parse: (text) => size(text, 0),
  },
  tokenTtl: {
    describe: "Life of access tokens",
    value: "TIME",
    default: "1h",
    parse: (text) => duration(text, 1_000, TOKEN_TTL_MAX_MS),
  },
  urlTtl: {
    describe: "Life of signed URLs",
    value: "TIME",
    default: printDuration(urlTtlMs),
    parse: (text) => duration(text, 1_000, URL_TTL_MAX_MS),
  },
  limitList: limit("List requests a minute per client", limits.list),
  limitDownload: limit("Downloads an hour per client", limits.download),
  limitToken: limit("Tokens a minute per client", limits.token),
  limitStudio: limit("Studio requests a minute per API key", limits.studio),
  limitStudioDaily: limit("Studio requests a day per API key", limits.studioDaily),
  workerConcurrency: {
    describe: "Artifacts ingested at once in this process; 0: leave it to `docyard-server worker`",
    value: "N",
    default: "2",
    parse: (text) => wholeNumber(text, 0, WORKER_CONCURRENCY_MAX),
  },
  keyFile: {
    describe: "Keys that seal secrets in the database (default: docyard.key beside the SQLite file)",
    value: "FILE",
    default: "",
    parse: (text) => text,
  },
  scratch: {
    describe: "Folder for media being joined (default: inside the blob folder)",
    value: "DIR",
    default: "",
    parse: (text) => text,
  },
  ffmpeg: {
    describe: "Program for media that docyard cannot join by itself; ffprobe is taken from beside it",
    value: "PROGRAM",
    default: "",
    parse: (text) => (text === "" ? "" : program(text)),
  },
  verifyReads: {
    describe: `How downloads are checked before they leave: ${VERIFY_READS.join(", ")}`,
    value: "HOW",
    default: "full",
    parse: (text) => oneOf(text, VERIFY_READS),
  },
  drainTimeout: {
    describe: "How long requests under way may take to finish after SIGTERM",
    value: "TIME",
    default: "30s",
    parse: (text) => duration(text, 0, DRAIN_TIMEOUT_MAX_MS),
  },
  seed: {
    describe:
      "Be a test double: ids and secrets follow from this word, and control routes turn the clock and break things. Only with --db memory --blob memory",
    value: "WORD",
    default: "",
    parse: (text) => (text === "" ? null : shortWord(text)),
  },
  logLevel: {
    describe: `Least important line to log: ${LOG_LEVELS.join(", ")}`,
    value: "LEVEL",
    default: "info",
    parse: (text) => oneOf(text, LOG_LEVELS),
  },
  json: { describe: "Print one JSON document instead of text", default: "false", parse: yesOrNo },
  verbose: { describe: "Show the stack of an error", default: "false", parse: yesOrNo },
};

function limit(what: string, { max }: LimitRule): Option<number> {
  return {
    describe: `${what}; 0: no limit`,
    value: "N",
    default: String(max),
    parse: (text) => wholeNumber(text, 0, LIMIT_MAX),
  };
}

export const OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS) as OptionName[];

/** `publicUrl` is `--public-url` on the command line and `public-url` in the config file … */
export function flagOf(name: OptionName): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** … and `DOCYARD_PUBLIC_URL` in the environment. */
export function variableOf(name: OptionName): string {
  return `DOCYARD_${flagOf(name).replaceAll("-", "_").toUpperCase()}`;
}

/** The config file itself is named by a flag or a variable, and by nothing else. */
export const CONFIG_FLAG = "config";
export const CONFIG_VARIABLE = "DOCYARD_CONFIG";

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A flag wins over the environment, the environment over the config file, the file over the default.
 * `flags` has texts by flag name, several for one that was repeated.
 * @throws UsageError naming what is wrong and where it was said.
 */
export function readConfig(
  flags: ReadonlyMap<string, readonly string[]>,
  env: Environment = process.env,
): Config {
  const paths = flags.get(CONFIG_FLAG) ?? [];
  if (paths.length > 1) throw new UsageError(`--${CONFIG_FLAG} is given ${paths.length} times`);
  const path = paths[0] ?? env[CONFIG_VARIABLE];
  const file = path === undefined || path === "" ? new Map<OptionName, string>() : readConfigFile(path);

  const read = <K extends OptionName>(name: K): Config[K] => {
    const option: Option<Config[K]> = OPTIONS[name];
    const flag = flags.get(flagOf(name));
    if (flag !== undefined && flag.length > 1 && option.repeatable !== true) {
      throw new UsageError(`--${flagOf(name)} is given ${flag.length} times`);
    }
    const [where, text] = firstSaid([
      [`--${flagOf(name)}`, flag?.join(",")],
      [variableOf(name), env[variableOf(name)] || undefined],
      [`${flagOf(name)} in ${path}`, file.get(name)],
      ["default", option.default],
    ]);
    try {
      return option.parse(text);
    } catch (error) {
      throw new UsageError(`${where}: ${reasonOf(error)}`);
    }
  };

  return Object.fromEntries(OPTION_NAMES.map((name) => [name, read(name)])) as unknown as Config;
}

/** Whether npm or npx started this program, through a shell that hands no signal on. */
export function isRunByNpm(env: Environment = process.env): boolean {
  return env["npm_lifecycle_event"] !== undefined;
}

/** Variables that look like ours and are not: a misspelt setting must not pass in silence. */
export function unknownVariables(env: Environment = process.env): string[] {
  const known = new Set([CONFIG_VARIABLE, ...OPTION_NAMES.map(variableOf)]);
  return Object.keys(env)
    .filter((name) => name.startsWith("DOCYARD_") && !name.startsWith("DOCYARD_TEST_") && !known.has(name))
    .map((name) => `${name} is not an option${suggestion(name, [...known])}`);
}

/** ` (did you mean X?)`, or nothing when nothing is near. */
export function suggestion(word: string, candidates: readonly string[]): string {
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(plain(word), plain(candidate)) }))
    .filter(({ candidate, distance }) => distance <= Math.max(2, candidate.length / 3))
    .sort((a, b) => a.distance - b.distance)[0];
  return near === undefined ? "" : ` (did you mean ${near.candidate}?)`;
}

/** @returns texts by option, as if they had been said on the command line. */
function readConfigFile(path: string): Map<OptionName, string> {
  let text: string;
  try {
    // Some editors begin a file with a mark of its byte order.
    text = readFileSync(path, "utf8").replace(/^\uFEFF/, "");
  } catch (error) {
    throw new UsageError(`cannot read the config file ${path}: ${reasonOf(error)}`);
  }
  const json = parseJson(path, text);
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UsageError(`the config file ${path} must hold a JSON object`);
  }
  const byKey = new Map(OPTION_NAMES.map((name) => [flagOf(name), name]));
  const texts = new Map<OptionName, string>();
  for (const [key, value] of Object.entries(json)) {
    const name = byKey.get(key);
    if (name === undefined) {
      throw new UsageError(
        `${path}: unknown key ${JSON.stringify(key)}${suggestion(key, [...byKey.keys()])}`,
      );
    }
    const parts: unknown[] = Array.isArray(value) && OPTIONS[name].repeatable === true ? value : [value];
    if (!parts.every((part) => ["string", "number", "boolean"].includes(typeof part))) {
      throw new UsageError(`${path}: ${key} must be text, a number, true or false`);
    }
    texts.set(name, parts.join(","));
  }
  return texts;
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // Only the place is told: the engine's own sentence quotes the file, which may hold a password.
    const place = /line \d+ column \d+/.exec(error instanceof Error ? error.message : "")?.[0];
    throw new UsageError(`${path} is not valid JSON${place === undefined ? "" : ` (${place})`}`);
  }
}

function firstSaid(said: readonly (readonly [string, string | undefined])[]): [string, string] {
  for (const [where, text] of said) if (text !== undefined) return [where, text];
  throw new TypeError("the last source always speaks");
}

function nonEmpty(text: string): string {
  if (text.trim() === "") throw new Error("must not be empty");
  return text;
}

function shortWord(text: string): string {
  if (!/^[\w.-]{1,64}$/.test(text)) throw new Error("must be 1 to 64 letters, digits, _, . or -");
  return text;
}

function wholeNumber(text: string, min: number, max: number): number {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new Error(`${shown(text)} is not a whole number from ${min} to ${max}`);
  }
  return value;
}

function size(text: string, min: number): number {
  const bytes = parseSize(text);
  if (bytes === null) throw new Error(`${shown(text)} is not a size such as 500MB or 5GiB`);
  if (bytes < min) throw new Error(`must be at least ${printSize(min)}`);
  return bytes;
}

function duration(text: string, min: number, max: number): number {
  const ms = parseDuration(text);
  if (ms === null) throw new Error(`${shown(text)} is not a time such as 90s, 30m or 1h`);
  if (ms < min || ms > max) throw new Error(`must be from ${printDuration(min)} to ${printDuration(max)}`);
  return ms;
}

/** An absolute path: a bare name is looked for on the PATH, as a shell does. */
function program(text: string): string {
  if (text.includes(sep)) {
    if (isProgram(text)) return resolve(text);
  } else {
    const folders = (process.env["PATH"] ?? "").split(delimiter).filter(isAbsolute);
    const found = folders.map((folder) => join(folder, text)).find(isProgram);
    if (found !== undefined) return found;
  }
  throw new Error("there is no such program");
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function oneOf<T extends string>(text: string, words: readonly T[]): T {
  const found = words.find((word) => word === text);
  if (found === undefined) {
    throw new Error(`${shown(text)} is none of ${words.join(", ")}${suggestion(text, words)}`);
  }
  return found;
}

function yesOrNo(text: string): boolean {
  return oneOf(text === "1" ? "true" : text === "0" ? "false" : text, ["true", "false"]) === "true";
}

function publicUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new Error("must be a whole URL such as https://files.example.com");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new Error("must have no user, query or fragment");
  }
  return url.href.replace(/\/+$/, "");
}

function cidrs(text: string): string[] {
  return text
    .split(/[\s,]+/)
    .filter((part) => part !== "")
    .map(cidr);
}

function cidr(text: string): string {
  const [address = "", bits, ...rest] = text.split("/");
  const width = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
  const fits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= width);
  // A zone belongs to one machine's network card, and no network has one.
  if (width < 0 || !fits || rest.length > 0 || address.includes("%")) {
    throw new Error(`${shown(text)} is not a network such as 10.0.0.0/8 or fd00::/8`);
  }
  return bits === undefined ? `${address}/${width}` : text;
}

/** What was said, short enough for one line. */
function shown(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

function plain(word: string): string {
  return word.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
}

/** Levenshtein's, row by row. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      current.push(
        Math.min(previous[j]! + 1, current[j - 1]! + 1, previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)),
      );
    }
    previous = current;
  }
  return previous[b.length]!;
}
