/**
 * The options of everything that an embedding program opens, read from the comments on their fields: the page
 * docs/options.md is made of them. Reads TypeScript as this repository writes it, no more.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

const PACKAGES = join(import.meta.dirname, "../../packages");

export interface Option {
  /** With the names of the objects around it: `limits.list`. */
  readonly name: string;
  readonly isRequired: boolean;
  /** Its comment in one line. */
  readonly text: string;
}

/** By function or setting: where its options are declared. */
export const DECLARED: readonly {
  readonly title: string;
  /** The factory whose options these are; null: they are part of others. */
  readonly factory: string | null;
  readonly module: string;
  readonly file: string;
  readonly type: string;
}[] = [
  entry("createDocyard", "@docyard/core", "core/src/docyard.ts", "DocyardOptions"),
  {
    ...entry("Settings", "@docyard/core", "core/src/settings.ts", "Settings"),
    title: "`settings` of `createDocyard` and `localDocyard`",
    factory: null,
  },
  {
    ...entry("IngestSettings", "@docyard/core", "core/src/settings.ts", "IngestSettings"),
    title: "`settings.ingest`",
    factory: null,
  },
  {
    ...entry("IngestPorts", "@docyard/core", "core/src/ports-ingest.ts", "IngestPorts"),
    title: "`ingest` of `createDocyard` and `localDocyard`",
    factory: null,
  },
  {
    ...entry("runInBackground", "@docyard/core", "core/src/background.ts", "BackgroundOptions"),
    title: "`docyard.runInBackground`",
    factory: null,
  },
  entry("createProvisioning", "@docyard/core", "core/src/provision.ts", "ProvisioningOptions"),
  entry("createApp", "@docyard/server", "server/src/app.ts", "AppOptions"),
  entry("localDocyard", "@docyard/adapters/local", "adapters/src/local.ts", "LocalDocyardOptions"),
  entry(
    "sqliteStore",
    "@docyard/adapters/store/sqlite",
    "adapters/src/store/sqlite-open.ts",
    "SqliteStoreOptions",
  ),
  {
    ...entry(
      "WriterThreadOptions",
      "@docyard/adapters/store/sqlite",
      "adapters/src/store/sqlite-open.ts",
      "WriterThreadOptions",
    ),
    title: "`writerThread` of `sqliteStore`",
    factory: null,
  },
  entry(
    "postgresStore",
    "@docyard/adapters/store/postgres",
    "adapters/src/store/postgres-connection.ts",
    "PostgresStoreOptions",
  ),
  entry("diskBlobs", "@docyard/adapters/blob/disk", "adapters/src/blob/disk.ts", "DiskBlobsOptions"),
  entry("s3Blobs", "@docyard/adapters/blob/s3", "adapters/src/blob/s3.ts", "S3BlobsOptions"),
  entry("memoryBlobs", "@docyard/adapters/blob/memory", "adapters/src/blob/memory.ts", "MemoryBlobsOptions"),
  entry("serveBlobs", "@docyard/adapters/blob/kit", "adapters/src/blob/kit.ts", "ServeOptions"),
  entry("redisQueue", "@docyard/adapters/queue/redis", "adapters/src/queue/redis.ts", "RedisQueueOptions"),
  entry(
    "memoryQueue",
    "@docyard/adapters/queue/memory",
    "adapters/src/queue/memory.ts",
    "MemoryQueueOptions",
  ),
  entry("redisLimit", "@docyard/adapters/limit/redis", "adapters/src/limit/redis.ts", "RedisLimitOptions"),
  entry(
    "memoryLimit",
    "@docyard/adapters/limit/memory",
    "adapters/src/limit/memory.ts",
    "MemoryLimitOptions",
  ),
  entry("httpFetch", "@docyard/adapters/fetch/http", "adapters/src/fetch/http.ts", "HttpFetchOptions"),
  {
    ...entry(
      "HttpFetchTimeouts",
      "@docyard/adapters/fetch/http",
      "adapters/src/fetch/http.ts",
      "HttpFetchTimeouts",
    ),
    title: "`timeouts` of `httpFetch`",
    factory: null,
  },
  entry(
    "mediabunnyMedia",
    "@docyard/adapters/media/mediabunny",
    "adapters/src/media/mediabunny.ts",
    "MediabunnyMediaOptions",
  ),
  entry(
    "ffmpegMedia",
    "@docyard/adapters/media/ffmpeg",
    "adapters/src/media/ffmpeg.ts",
    "FfmpegMediaOptions",
  ),
  entry("testDouble", "@docyard/adapters/testing", "adapters/src/testing/double.ts", "TestDoubleOptions"),
];

function entry(factory: string, module: string, file: string, type: string) {
  return { title: `\`${factory}\``, factory, module, file, type };
}

/**
 * The fields of an interface, those of what it extends first.
 * @throws Error for a declaration that is not there, and for a field without a comment.
 */
export function optionsOf(file: string, type: string): Option[] {
  const source = readFileSync(join(PACKAGES, file), "utf8");
  const [, base, body] =
    new RegExp(`^export interface ${type}(?: extends (\\w+))? \\{\n([^]*?)^\\}`, "m").exec(source) ?? [];
  if (body === undefined) throw new Error(`${file} declares no ${type}`);
  const inherited = base === undefined ? [] : optionsOf(fileOf(source, file, base), base);
  return [...inherited, ...fieldsOf(body, `${file} ${type}`)];
}

/** Where a type that is imported from a neighbour is declared. */
function fileOf(source: string, file: string, type: string): string {
  const [, path] = new RegExp(`^import [^;]*\\b${type}\\b[^;]* from "([^"]+)"`, "m").exec(source) ?? [];
  return path === undefined ? file : join(file, "..", path);
}

function fieldsOf(body: string, where: string): Option[] {
  const found: Option[] = [];
  const around: string[] = [];
  let comment: string | null = null;
  for (const [part, said, name, optional, opens] of body.matchAll(
    /\/\*\*([^]*?)\*\/|^ *readonly (\w+)(\??):(?: (\{)$)?|^ *(?:\}|\) =>).*;$/gm,
  )) {
    if (said !== undefined) comment = said.replaceAll(/\s*\n\s*\*\s?/g, " ").trim();
    else if (name === undefined) {
      if (/^ *\};$/.test(part)) around.pop();
    } else {
      if (comment === null) throw new Error(`${where}: ${name} says nothing`);
      if (opens === undefined)
        found.push({ name: [...around, name].join("."), isRequired: optional === "", text: comment });
      else around.push(name);
      comment = null;
    }
  }
  return found;
}

/** The whole page. */
export function optionsPage(): string {
  const parts = DECLARED.map(({ title, module, file, type }) => {
    const rows = optionsOf(file, type).map(({ name, isRequired, text }) => {
      const cell = text
        .replaceAll("|", "\\|")
        .replaceAll(/ ?\((?:contract|ruling|lesson|design idea)[^)]*\)/g, "");
      return `| \`${name}\`${isRequired ? "" : "?"} | ${cell} |`;
    });
    return [
      `## ${title}`,
      "",
      `\`${type}\` of \`${module}\`.`,
      "",
      "| option | what it is |",
      "|---|---|",
      ...rows,
      "",
    ].join("\n");
  });
  return `${HEAD}\n${parts.join("\n")}`;
}

const HEAD = `# Options

Everything that a program can say when it [embeds docyard](embed.md), made from the comments in the code by \`vitest run --project core tests/core/options.test.ts -u\`. What is marked with a question mark may be left out. Times are in milliseconds and sizes in bytes.

\`memoryStore()\` and \`s3Source()\` have no options. For \`docyard-server\`, \`--help\` says what there is.
`;
