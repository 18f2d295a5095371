/**
 * The client package as its users get it: the files that would be published, in a project of their own, with plain Node,
 * their own compiler settings and a real server. What each call does is proven in tests/http.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { openAsBlob } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { createClient, createStudioClient } from "@docyard/client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build, type Server, startServer, tempFolder } from "./program.ts";

const ROOT = join(import.meta.dirname, "../..");
const PACKAGE = join(ROOT, "packages/client");
const MIB = 1024 ** 2;
const run = promisify(execFile);

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;
/** A user's project, with the package installed. */
let project: string;
let environment: Record<string, string>;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  server = await startServer([], { cwd: folder.path });
  const { dock, client, key } = server.firstRun!;
  environment = {
    PATH: process.env["PATH"]!,
    DOCYARD_URL: server.url,
    CLIENT_ID: client.clientId,
    CLIENT_SECRET: client.clientSecret,
    DOCK_ID: dock.id,
    API_KEY: key.apiKey,
  };
  project = join(folder.path, "project");
  const installed = join(project, "node_modules/@docyard/client");
  await mkdir(installed, { recursive: true });
  for (const part of ["package.json", "README.md", "dist"]) {
    await cp(join(PACKAGE, part), join(installed, part), { recursive: true });
  }
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

/** The README's blocks, as they are. */
async function examples(): Promise<string[]> {
  const readme = await readFile(join(PACKAGE, "README.md"), "utf8");
  return Array.from(readme.matchAll(/^```js\n([^]*?)^```$/gm), ([, code]) => code!);
}

describe("the README's", () => {
  const DIGEST = createHash("sha256").update("Blood count: fine.").digest("hex");
  const OUTPUT = [
    `sha256:${DIGEST} false\nreport.txt Blood count: fine.\nnot_found 404\n`,
    "upload_completed 39\n",
    // What the others only define.
    "",
    "",
  ];

  test("examples run as they stand, and are all of these", async () => {
    const blocks = await examples();
    expect(blocks).toHaveLength(OUTPUT.length);
    for (const [index, code] of blocks.entries()) {
      const file = join(project, `example-${index}.mjs`);
      await writeFile(file, code);
      const { stdout, stderr } = await run(process.execPath, [file], { env: environment });
      expect({ stdout, stderr }).toEqual({ stdout: OUTPUT[index], stderr: "" });
    }
  });
});

/** Uses every type that users meet; what must not compile is marked. */
const CONSUMER = `
import {
  createClient, createStudioClient, DocyardApiError, sendBytes, sha256,
  type Client, type ClientOptions, type CreatedArtifact, type DockClient, type DocyardErrorCode, type Download,
  type JsonObject, type ListedArtifact, type PendingArtifact, type Progress, type Source, type StoredArtifact,
  type StudioArtifact, type StudioClient, type StudioCreateInput, type UploadOptions,
} from "@docyard/client";

const options: ClientOptions = { baseUrl: "https://files.example.com", clientId: "dyc_a", clientSecret: "dys_b", fetch };
const client: Client = createClient(options);
export const inProcess: Client = createClient({ ...options, fetch: (request: Request) => new Response(request.url) });
const dock: DockClient = client.dock("dock_a");
const maybe: AbortSignal | undefined = new AbortController().signal;
declare const number: number | undefined;
declare const answering: ClientOptions["fetch"];
const retry = { attempts: number, baseMs: number, maxMs: number, retryAfterMaxMs: number, random: undefined, sleep: undefined };
export const asIfLeftOut: Client = createClient({ ...options, scopes: undefined, fetch: answering, now: undefined, timeoutMs: number, retry });

export async function machine(file: Blob, stream: ReadableStream<Uint8Array>): Promise<string> {
  const sources: readonly Source[] = [file, stream, () => stream, async () => stream, "text", new Uint8Array(1), new ArrayBuffer(1)];
  const metadata: JsonObject = { a: [1, { b: null }] };
  const onProgress = ({ loaded, total }: Progress): number => loaded / (total ?? loaded);
  const upload: UploadOptions = { filename: "a.pdf", metadata, hash: false, onProgress, signal: maybe };
  const stored: StoredArtifact = await dock.upload(sources[0]!, upload);
  const created: CreatedArtifact = await dock.create({ filename: "a.pdf", hash: await sha256(file) });
  // @ts-expect-error a duplicate has nowhere to send bytes to
  created.uploadUrl;
  if (!created.isDuplicate) {
    const pending: PendingArtifact = created;
    await sendBytes(pending, file, { onProgress, retry: { attempts: 2 } });
    await dock.complete(pending);
  }
  const page = await dock.list({ limit: 10, createdAfter: new Date(), status: ["created", "upload_failed"] });
  const next: string | null = page.meta.nextCursor;
  for await (const found of dock.artifacts({ search: "a", metadata: { a: 1 } })) {
    const listed: ListedArtifact = found;
    const download: Download = await dock.download(listed, { range: { start: 0, end: 5 } });
    const blob: Blob = await download.blob();
    void [download.stream.getReader(), blob, await download.text(), (await download.bytes()).byteLength];
  }
  // @ts-expect-error no such status
  await dock.list({ status: "deleted" });
  // @ts-expect-error a filename is needed
  await dock.upload(file, {});
  // @ts-expect-error numbers are no source
  await dock.upload(7, { filename: "a" });
  return stored.hash + next;
}

const studio: StudioClient = createStudioClient({ baseUrl: "https://files.example.com", apiKey: "dk_live_a" });

export async function media(file: Blob): Promise<number | null> {
  const inputs: StudioCreateInput[] = [
    { name: "a", type: "script", url: "https://example.com/a.srt" },
    { name: "a", type: "video", s3Path: "s3://bucket/a.mp4" },
    { name: "a", type: "audio", fragments: [{ url: "https://example.com/a", startTime: 0 }] },
    // @ts-expect-error scripts have no fragments
    { name: "a", type: "script", fragments: [] },
    // @ts-expect-error exactly one source
    { name: "a", type: "video", url: "https://example.com/a", s3Path: "s3://bucket/a" },
    // @ts-expect-error exactly one source
    { name: "a", type: "video" },
  ];
  const made: StudioArtifact = await studio.create(inputs[0]!);
  await studio.upload(file, { fileName: "a.mp4", type: "video" });
  const done = await studio.wait(made.id, { until: ({ duration }) => duration !== null, signal: maybe });
  for await (const { name } of studio.artifacts({ type: "video" })) name.toUpperCase();
  return done.duration;
}

export function explain(error: unknown): string {
  if (!(error instanceof DocyardApiError)) throw error;
  const code: DocyardErrorCode = error.code;
  // @ts-expect-error no such code
  if (code === "teapot") return "";
  return [code, error.status, error.message, error.issues?.[0], error.retryAfterMs, error.requestId].join();
}
`;

const NODE_CONSUMER = `
import { createReadStream, openAsBlob } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Readable } from "node:stream";

export async function files(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  await dock.upload(await openAsBlob("a.mp4"), { filename: "a.mp4" });
  await dock.upload(() => Readable.toWeb(createReadStream("a.mp4")), { filename: "a.mp4" });
  await dock.upload(Readable.toWeb(Readable.from(chunks)), { filename: "a.mp4" });
  await dock.upload((await fetch("https://example.com/a")).body!, { filename: "a.mp4" });
  await writeFile("copy.mp4", (await dock.download("art_a")).stream);
}
`;

test.each([
  [
    "a browser's, bundled",
    { module: "esnext", moduleResolution: "bundler", lib: ["es2022", "dom", "dom.iterable"], types: [] },
  ],
  ["a worker's", { module: "esnext", moduleResolution: "bundler", lib: ["es2022", "webworker"], types: [] }],
  ["Node's", { module: "nodenext", moduleResolution: "nodenext", lib: ["es2022"], types: ["node"] }],
  // The compiler's default: its names for streams and Node's are not assignable to each other.
  ["Node's and the DOM's", { module: "nodenext", moduleResolution: "nodenext", types: ["node"] }],
])("its types hold under %s settings", async (name, settings) => {
  const place = join(project, name.replaceAll(/\W+/g, "-"));
  await mkdir(place);
  await writeFile(
    join(place, "consumer.mts"),
    settings.types.includes("node") ? CONSUMER + NODE_CONSUMER : CONSUMER,
  );
  const compilerOptions = {
    ...settings,
    target: "es2022",
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    // Ours are checked; the compiler's own need no second look.
    skipDefaultLibCheck: true,
    typeRoots: [join(ROOT, "node_modules/@types")],
  };
  await writeFile(join(place, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.mts"] }));
  const compiled = await run(process.execPath, [
    join(ROOT, "node_modules/typescript/bin/tsc"),
    "-p",
    place,
  ]).catch((error: { stdout: string }) => error);
  expect(compiled.stdout).toBe("");
});

describe("against a real server", () => {
  const connect = () => {
    const { client } = server.firstRun!;
    return createClient({ baseUrl: server.url, ...client }).dock(server.firstRun!.dock.id);
  };

  /** The same bytes each time. */
  function blocks(count: number, seed: number): ReadableStream<Uint8Array<ArrayBuffer>> {
    let left = count;
    return new ReadableStream({
      pull(controller) {
        if (left-- <= 0) return controller.close();
        controller.enqueue(new Uint8Array(MIB).fill(seed + left));
      },
    });
  }

  test("files, streams with and without their size, and progress", async () => {
    const dock = connect();
    const path = join(folder.path, "film.bin");
    await writeFile(path, blocks(9, 1));
    const digest = createHash("sha256");
    for await (const block of blocks(9, 1)) digest.update(block);
    const hash = `sha256:${digest.digest("hex")}`;
    const steps: number[] = [];
    const stored = await dock.upload(() => blocks(9, 1), {
      filename: "film.bin",
      size: 9 * MIB,
      onProgress: ({ loaded, total }) => {
        expect(total).toBe(9 * MIB);
        steps.push(loaded);
      },
    });
    expect(stored).toMatchObject({ size: 9 * MIB, hash, isDuplicate: false });
    expect(steps).toEqual(Array.from({ length: 10 }, (_, index) => index * MIB));
    expect(await dock.upload(await openAsBlob(path), { filename: "again.bin" })).toMatchObject({
      id: stored.id,
      isDuplicate: true,
    });
    expect(await dock.upload(blocks(3, 77), { filename: "other.bin" })).toMatchObject({ size: 3 * MIB });
    const download = await dock.download(stored.id);
    const got = createHash("sha256");
    for await (const chunk of download.stream) got.update(chunk);
    expect(`sha256:${got.digest("hex")}`).toBe(hash);
  });

  test("a stream that goes on after its size, however late, is not cut there", async () => {
    const dock = connect();
    let left = 3;
    const late = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          // Time for a server that has got all it was told of to say so.
          await sleep(100);
          if (left-- <= 0) return controller.close();
          controller.enqueue(new Uint8Array(10).fill(left));
        },
      },
      { highWaterMark: 0 },
    );
    await expect(dock.upload(late, { filename: "late.bin", size: 10 })).rejects.toThrow(RangeError);
  });

  test("a server that dies in the middle of a download, and is started again, costs a resumption", async () => {
    const own = await tempFolder();
    let victim = await startServer([], { cwd: own.path });
    try {
      const { client, dock: home } = victim.firstRun!;
      let isUp = Promise.resolve();
      let requests = 0;
      const dock = createClient({
        baseUrl: victim.url,
        ...client,
        async fetch(request, init) {
          await isUp;
          requests += 1;
          return fetch(request, init);
        },
      }).dock(home.id);
      const size = 32 * MIB;
      const { id, hash } = await dock.upload(() => blocks(32, 5), { filename: "large.bin" });
      const reader = (await dock.download(id)).stream.getReader();
      const digest = createHash("sha256");
      const first = await reader.read();
      digest.update(first.value!);
      let loaded = first.value!.length;

      const before = requests;
      await victim.kill();
      isUp = startServer(["--port", `${victim.port}`], { cwd: own.path }).then((again) => {
        victim = again;
      });
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        digest.update(next.value);
        loaded += next.value.length;
      }
      expect(loaded).toBe(size);
      expect(`sha256:${digest.digest("hex")}`).toBe(hash);
      expect(requests).toBeGreaterThan(before);
    } finally {
      await victim.kill();
      await own.remove();
    }
  });

  test("Studio's, too", async () => {
    const studio = createStudioClient({ baseUrl: server.url, apiKey: server.firstRun!.key.apiKey });
    const text = "1\n00:00:01,000 --> 00:00:02,000\nHello from afar.\n";
    const { id } = await studio.upload(text, { fileName: "a.srt", type: "script", name: "Pilot" });
    const done = await studio.wait(id);
    expect(done).toMatchObject({
      name: "Pilot",
      status: "upload_completed",
      size: text.length,
      duration: null,
    });
    expect(await (await studio.download(done)).text()).toBe(text);
  });
});
