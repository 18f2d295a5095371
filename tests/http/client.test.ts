/**
 * What the client package does in each case, against the real app: what is sent and what is not, what every failure
 * says and keeps to itself, and that a signal ends whatever is going on. Its laws are in client-laws.test.ts.
 */

import { inspect } from "node:util";
import type { ClientOptions, SendOptions, Source, UploadOptions, UploadTarget } from "@docyard/client";
import {
  createClient,
  createStudioClient,
  DocyardApiError,
  sendBytes,
  sha256 as clientSha256,
} from "@docyard/client";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { ClientWorld, Fate } from "./client-kit.ts";
import { failure, fates, FREE, openClientWorld, streamOf } from "./client-kit.ts";
import { PUBLIC_URL } from "./harness.ts";
import { openStudioHarness } from "./studio-harness.ts";
import { sha256, someBytes } from "./target.ts";

const BLOBS = /^\/v1\/blobs\//;

let world: ClientWorld;
beforeAll(async () => {
  world = await openClientWorld();
});
afterAll(() => world.harness.close());

/** A client of a dock that nothing is in. */
async function emptyDock(options: Partial<ClientOptions> = {}, list: readonly Fate[] = [], isMeant?: RegExp) {
  const dockId = await world.harness.operator.createDock();
  const connected = world.connect(
    options,
    fates(list, ({ method, target }) => isMeant?.test(`${method} ${target}`) ?? true),
  );
  return { ...connected, dockId, dock: connected.client.dock(dockId) };
}

describe("upload", () => {
  const bytes = someBytes(3_000);
  const text = "naïve ☕";
  const SOURCES: readonly (readonly [string, () => Source, Uint8Array])[] = [
    ["bytes", () => bytes, bytes],
    ["part of a buffer", () => new Uint8Array(bytes.buffer, 10, 20), bytes.subarray(10, 30)],
    ["an ArrayBuffer", () => bytes.slice().buffer, bytes],
    ["text", () => text, new TextEncoder().encode(text)],
    ["a blob", () => new Blob([bytes], { type: "image/png" }), bytes],
    ["nothing", () => new Blob([]), new Uint8Array()],
    ["a stream", () => streamOf(bytes, [1, 999]), bytes],
    ["an empty stream", () => streamOf(new Uint8Array()), new Uint8Array()],
    ["a function", () => () => streamOf(bytes), bytes],
    ["a function with a promise", () => async () => streamOf(bytes), bytes],
  ];

  describe.each(["auto", false, "hex"] as const)("with hash %s", (hash) => {
    test.each(SOURCES)("%s comes back as it was", async (_name, source, expected) => {
      const { dock } = await emptyDock();
      const digest = sha256(expected);
      const stored = await dock.upload(source(), {
        filename: "a.pdf",
        metadata: { nested: { list: [1, null] } },
        hash: hash === "hex" ? digest : hash,
      });
      expect(stored).toMatchObject({
        dockId: dock.id,
        filename: "a.pdf",
        size: expected.length,
        hash: `sha256:${digest}`,
        isDuplicate: false,
        metadata: { nested: { list: [1, null] } },
      });
      const download = await dock.download(stored.id);
      expect(download.size).toBe(expected.length);
      expect(await download.bytes()).toEqual(new Uint8Array(expected));
    });
  });

  test("what the dock has is not sent again, if its hash is known before", async () => {
    const { dock, net } = await emptyDock();
    const first = await dock.upload(bytes, { filename: "a.bin", metadata: { first: true } });
    let isCancelled = false;
    const stream = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
    const cases: readonly (readonly [Source, UploadOptions])[] = [
      [bytes, { filename: "b.bin" }],
      [new Blob([bytes]), { filename: "b.bin" }],
      [() => streamOf(bytes), { filename: "b.bin", hash: sha256(bytes) }],
      [stream, { filename: "b.bin", hash: `sha256:${sha256(bytes).toUpperCase()}` }],
    ];
    for (const [source, options] of cases) {
      const again = await dock.upload(source, options);
      expect(again).toMatchObject({ id: first.id, isDuplicate: true, metadata: { first: true } });
    }
    expect(net.count("PUT")).toBe(1);
    expect(isCancelled).toBe(true);
    // Only on arrival, where nothing was known before.
    expect(await dock.upload(streamOf(bytes), { filename: "b.bin" })).toMatchObject({
      id: first.id,
      isDuplicate: true,
    });
    expect(net.count("PUT")).toBe(2);
  });

  test.each([
    ["a blob's own", "a.bin", { type: "image/png" }, undefined, "image/png"],
    ["the one that is given", "a.bin", { type: "image/png" }, "text/csv", "text/csv"],
    ["the extension's", "a.pdf", {}, undefined, "application/pdf"],
    ["none that anybody knows", "a", {}, undefined, "application/octet-stream"],
  ])("its type is %s", async (_name, filename, blob, contentType, expected) => {
    const { dock } = await emptyDock();
    const stored = await dock.upload(new Blob([someBytes()], blob), { filename, contentType });
    expect(stored.contentType).toBe(expected);
    expect((await dock.download(stored)).contentType).toBe(expected);
  });

  test("a bare stream is sent once, whatever happens, and let go of", async () => {
    const { dock, net } = await emptyDock({}, ["refused"], /^PUT/);
    let isCancelled = false;
    const stream = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
    expect(await failure(dock.upload(stream, { filename: "a.bin" }))).toMatchObject({ code: "network" });
    expect(net.count("PUT")).toBe(1);
    expect(isCancelled).toBe(true);
    expect((await dock.list()).data).toEqual([]);
  });

  test("a source that fails says so itself, and nobody tries again", async () => {
    const { dock, net } = await emptyDock();
    const fault = new Error("the scanner is on fire");
    const broken = (): ReadableStream<Uint8Array> =>
      new ReadableStream({
        pull: (controller) => controller.error(fault),
      });
    expect(await failure(dock.upload(broken, { filename: "a.bin" }))).toBe(fault);
    const texts = new ReadableStream<unknown>({ pull: (controller) => controller.enqueue("text") });
    const strings = (): ReadableStream<Uint8Array> => texts as ReadableStream<Uint8Array>;
    expect(await failure(dock.upload(strings, { filename: "a.bin" }))).toBeInstanceOf(TypeError);
    expect(net.count("PUT")).toBe(2);
    for (const other of [7, null, new Response("text"), { arrayBuffer: async () => bytes.buffer }]) {
      const error = await failure(dock.upload(other as unknown as Source, { filename: "a.bin" }));
      expect(error).toBeInstanceOf(TypeError);
      expect((error as Error).message).toMatch(/^source must be/);
    }
  });

  test.each([7, 1_000, 2_999, 3_001])("a stream of 3000 bytes is not sent as %s", async (size) => {
    const { dock, net } = await emptyDock();
    // Several tries would not make it longer.
    const error = await failure(dock.upload(() => streamOf(bytes), { filename: "a.bin", size }));
    expect(error).toBeInstanceOf(RangeError);
    expect((error as Error).message).toContain(`size is ${size}`);
    expect(net.count("PUT")).toBe(1);
    expect((await dock.list()).data).toEqual([]);
  });

  test("a runtime that sends something else than the stream has not sent it", async () => {
    const { dock } = await emptyDock();
    class NoStreams extends Request {
      constructor(url: string, init: RequestInit = {}) {
        const { body, ...rest } = init;
        // As browsers do that know no streams here: the standard's way with anything that they cannot send.
        super(
          url,
          body == null
            ? rest
            : { ...rest, body: body instanceof ReadableStream ? "[object ReadableStream]" : body },
        );
      }
    }
    vi.stubGlobal("Request", NoStreams);
    onTestFinished(() => void vi.unstubAllGlobals());
    for (const hash of ["auto", false] as const) {
      let isCancelled = false;
      const stream = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
      const error = await failure(dock.upload(stream, { filename: "a.bin", hash }));
      expect(error).toMatchObject({ name: "DocyardApiError", code: "protocol" });
      expect((error as Error).message).toContain("Blob");
      expect(isCancelled).toBe(true);
    }
    expect((await dock.list()).data).toEqual([]);
  });

  test("what cannot become a request is the caller's mistake, told at once and without the signature", async () => {
    const { net } = await emptyDock();
    const uploadUrl = "http://docyard.test/v1/blobs/a?signature=1";
    const duplicate = { id: "art_a", isDuplicate: true } as unknown as UploadTarget;
    const wrong: readonly (readonly [UploadTarget, SendOptions, string])[] = [
      [duplicate, {}, "duplicate"],
      [{ uploadUrl: "/v1/blobs/a?signature=1" }, {}, "uploadUrl"],
      [{ uploadUrl, uploadHeaders: { "a b": "c" } }, {}, "uploadHeaders"],
      [{ uploadUrl }, { contentType: "☕" }, "contentType"],
    ];
    for (const [target, options, word] of wrong) {
      let isCancelled = false;
      const stream = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
      const error = await failure(sendBytes(target, stream, { ...options, fetch: net.fetch }));
      expect(error).toBeInstanceOf(TypeError);
      expect((error as Error).message).toContain(word);
      expect(inspect(error, { showHidden: true })).not.toContain("signature=");
      expect(isCancelled).toBe(true);
    }
    expect(net.seen).toEqual([]);
  });

  test.each(["breaks", "is refused", "is given up"])(
    "a stream of known size whose transfer %s is not called too short",
    async (how) => {
      const { dock } = await emptyDock();
      const reason = new Error("enough");
      const controller = new AbortController();
      /** A first chunk, and then nothing for as long as one waits. */
      let isBegun = false;
      const slow = new ReadableStream<Uint8Array>({
        async pull(stream) {
          if (isBegun) await new Promise(() => {});
          isBegun = true;
          stream.enqueue(bytes);
        },
      });
      const created = await dock.create({ filename: "a.bin" });
      if (created.isDuplicate) throw new Error("there is nothing it could be equal to");
      const sent = sendBytes(created, slow, {
        size: 2 * bytes.length,
        signal: controller.signal,
        async fetch(request) {
          const reader = request.body!.getReader();
          await reader.read();
          // Asks for more, as everything that sends does.
          void reader.read().catch(() => {});
          await Promise.resolve();
          if (how === "breaks") throw new TypeError("fetch failed");
          if (how === "is refused") return new Response("", { status: 413 });
          controller.abort(reason);
          return new Promise<Response>(() => {});
        },
      });
      const error = await failure(sent);
      if (how === "is given up") expect(error).toBe(reason);
      else expect(error).toMatchObject({ code: how === "breaks" ? "network" : "unprocessable" });
    },
  );

  test("bytes that were changed on their way are found out", async () => {
    const { dock } = await emptyDock();
    const wrong = { filename: "a.bin", hash: sha256(someBytes()) };
    expect(await failure(dock.upload(bytes, wrong))).toMatchObject({ code: "unprocessable", status: 422 });
    expect((await dock.list()).data).toEqual([]);

    // A proxy that turns a bit: the server has stored something else than the stream held.
    const { app } = world.harness;
    const bent = createClient({
      ...world.credentials,
      baseUrl: PUBLIC_URL,
      async fetch(request) {
        if (request.method !== "PUT") return app.fetch(request);
        await request.arrayBuffer();
        return app.fetch(new Request(request.url, { method: "PUT", body: "bent" }));
      },
    });
    const sent = bent.dock(dock.id).upload(() => streamOf(bytes), { filename: "a.bin" });
    expect(await failure(sent)).toMatchObject({ name: "DocyardApiError", code: "integrity_mismatch" });
  });

  test("progress counts what is handed on, and starts over with each try", async () => {
    const { dock } = await emptyDock({}, [{ status: 503 }], /^PUT/);
    const told = async (source: Source, size?: number): Promise<(number | null)[][]> => {
      const steps: (number | null)[][] = [];
      const onProgress: UploadOptions["onProgress"] = ({ loaded, total }) => steps.push([loaded, total]);
      await dock.upload(source, { filename: "a.bin", onProgress, ...(size === undefined ? {} : { size }) });
      return steps;
    };
    const held = someBytes(10);
    expect(await told(held)).toEqual([
      [0, 10],
      [0, 10],
      [10, 10],
    ]);
    const [a, b] = [someBytes(10), someBytes(10)];
    expect(await told(() => streamOf(a, [4]))).toEqual([
      [0, null],
      [4, null],
      [8, null],
      [10, null],
    ]);
    expect(await told(streamOf(b, [4]), 10)).toEqual([
      [0, 10],
      [4, 10],
      [8, 10],
      [10, 10],
    ]);
  });

  test("in three steps, and by somebody who has only the URL", async () => {
    const { dock, net } = await emptyDock();
    const created = await dock.create({ filename: "a.bin" });
    if (created.isDuplicate) throw new Error("there is nothing it could be equal to");
    const { uploadUrl } = created;
    await sendBytes({ uploadUrl }, bytes, { fetch: net.fetch });
    expect(net.seen.at(-1)!.headers.get("authorization")).toBeNull();
    const stored = await dock.complete({ uploadId: created.uploadId });
    expect(stored).toMatchObject({ id: created.id, hash: `sha256:${sha256(bytes)}` });
    expect(await dock.complete(created)).toMatchObject({ id: created.id });
    const held = await dock.create({ filename: "b.bin", hash: sha256(bytes) });
    expect(held).toMatchObject({ id: created.id, isDuplicate: true });
    expect(await dock.get(created.id)).toMatchObject({ status: "upload_completed", errorMessage: null });
  });

  test("complete waits for the worker that verifies, and says what it found", async () => {
    const target = await openStudioHarness({
      settings: FREE,
      blobs: (blobs) => ({
        ...blobs,
        // As a bucket: it cannot tell.
        stat: async (key) => {
          const info = await blobs.stat(key);
          return info === null ? null : { ...info, digest: null };
        },
      }),
    });
    onTestFinished(() => target.close());
    const { clientId, clientSecret } = await target.operator.createClient({});
    let waits = 0;
    const client = createClient({
      baseUrl: PUBLIC_URL,
      clientId,
      clientSecret,
      fetch: async (request) => target.app.fetch(request),
      now: () => target.clock.now(),
      retry: {
        async sleep(ms) {
          waits += 1;
          target.clock.advance(ms);
          if (waits === 2) await target.step();
        },
      },
    });
    const dock = client.dock(await target.operator.createDock());
    const stored = await dock.upload(bytes, { filename: "a.bin" });
    expect(stored).toMatchObject({ hash: `sha256:${sha256(bytes)}`, isDuplicate: false });
    expect(waits).toBe(2);
    const never = dock.upload(someBytes(), { filename: "b.bin", timeoutMs: 5_000 });
    expect(await failure(never)).toMatchObject({ code: "timeout" });
  });
});

describe("list", () => {
  test("every condition reaches the server", async () => {
    const { dock } = await emptyDock();
    const { clock } = world.harness;
    const ids: string[] = [];
    const times: Date[] = [];
    for (const [index, filename] of ["alpha.pdf", "beta & co.pdf", "gamma.pdf"].entries()) {
      times.push(new Date(clock.now()));
      ids.push((await dock.upload(someBytes(), { filename, metadata: { index, tag: "ä+%" } })).id);
      clock.advance(1_000);
    }
    const pending = await dock.create({ filename: "delta.pdf" });
    const found = async (query: Parameters<typeof dock.list>[0]): Promise<string[]> =>
      (await dock.list(query)).data.map(({ id }) => id);
    expect(await found({})).toEqual(ids.toReversed());
    expect(await found({ search: "A & CO" })).toEqual([ids[1]]);
    expect(await found({ metadata: { tag: "ä+%", index: 2 } })).toEqual([ids[2]]);
    expect(await found({ createdAfter: times[1]! })).toEqual([ids[2], ids[1]]);
    expect(await found({ createdBefore: times[1]!.toISOString() })).toEqual([ids[0]]);
    expect(await found({ limit: 1, offset: 1 })).toEqual([ids[1]]);
    expect(await found({ status: "created" })).toEqual([pending.id]);
    expect(await found({ status: ["created", "upload_completed"], limit: 2 })).toEqual([pending.id, ids[2]]);
    const page = await dock.list({ limit: 2 });
    expect(page.meta).toMatchObject({ total: 3, hasMore: true, pageSize: 2 });
    expect(await found({ limit: 2, cursor: page.meta.nextCursor! })).toEqual([ids[0]]);
    const failed = await failure(dock.list({ limit: 0, offset: -1 }));
    expect(failed).toMatchObject({ code: "invalid_argument", status: 400 });
  });

  test("a walk asks for large pages, unless it is told how large", async () => {
    const { dock, net } = await emptyDock();
    for (const limit of [undefined, 7]) for await (const _ of dock.artifacts({ limit })) continue;
    expect(
      net.seen.filter(({ method }) => method === "GET").map(({ target }) => target.split("?")[1]),
    ).toEqual(["limit=100", "limit=7"]);
  });

  test("a list that does not advance is no endless walk", async () => {
    const page = JSON.stringify({ data: [], meta: { total: 1, nextCursor: "again" } });
    const { dock } = await emptyDock(
      {},
      Array.from({ length: 9 }, () => ({ status: 200, body: page })),
      /^GET/,
    );
    const walk = async (): Promise<void> => {
      for await (const artifact of dock.artifacts()) expect(artifact).toBeUndefined();
    };
    expect(await failure(walk())).toMatchObject({ code: "protocol" });
  });
});

describe("remove", () => {
  test("is over when the artifact is gone, whoever heard it", async () => {
    const { dock, net } = await emptyDock({}, ["lost"], /^DELETE/);
    const { id } = await dock.upload(someBytes(), { filename: "a.bin" });
    await dock.remove(id);
    expect(net.count("DELETE")).toBe(2);
    expect(await failure(dock.get(id))).toMatchObject({ code: "not_found", status: 404 });
    expect(await failure(dock.remove(id))).toMatchObject({ code: "not_found" });
  });

  test("of what was never there is no success, though it was told to wait first", async () => {
    const { dock } = await emptyDock({}, [{ status: 429 }], /^DELETE/);
    expect(await failure(dock.remove("art_none"))).toMatchObject({ code: "not_found" });
  });
});

describe("download", () => {
  const bytes = someBytes(5_000);
  let id: string;
  let dockId: string;
  beforeEach(async () => {
    const opened = await emptyDock();
    ({ dockId } = opened);
    ({ id } = await opened.dock.upload(bytes, { filename: "a.txt" }));
  });

  test("as bytes, blob, text and stream, once each", async () => {
    const dock = world.connect().client.dock(dockId);
    const blob = await (await dock.download(id)).blob();
    expect(blob.type).toBe("text/plain");
    expect(new Uint8Array(await blob.arrayBuffer())).toEqual(bytes);
    const { id: texted } = await dock.upload("naïve ☕", { filename: "b.txt" });
    const download = await dock.download(texted);
    expect(await download.text()).toBe("naïve ☕");
    expect(await failure(download.bytes())).toBeInstanceOf(TypeError);
    expect(() => download.stream).toThrow(TypeError);
    const { stream } = await dock.download(id);
    await stream.cancel();
  });

  test("ranges are those of slice, and those outside are refused here", async () => {
    const dock = world.connect().client.dock(dockId);
    const part = async (start: number, end?: number): Promise<Uint8Array> =>
      (await dock.download(id, { range: { start, end } })).bytes();
    expect(await part(0, 1)).toEqual(bytes.slice(0, 1));
    expect(await part(4_999)).toEqual(bytes.slice(4_999));
    expect(await part(10, 1e9)).toEqual(bytes.slice(10));
    for (const [start, end] of [[5_000], [-1], [0.5], [3, 3], [4, 2], [Number.NaN]] as const) {
      expect(await failure(part(start, end))).toBeInstanceOf(RangeError);
    }
  });

  test("a row saves the request for its URL; one whose URL has ended does not", async () => {
    const { client, net } = world.connect();
    const dock = client.dock(dockId);
    const row = (await dock.list()).data[0]!;
    await (await dock.download(row)).bytes();
    const gets = (): number => net.count("GET", /\/artifacts\/art_/);
    expect(gets()).toBe(0);
    await (
      await dock.download({ ...row, expiresAt: new Date(world.harness.clock.now()).toISOString() })
    ).bytes();
    expect(gets()).toBe(1);
    // The server's clock is ahead: it says so, and a fresh URL is fetched.
    world.harness.clock.advance(3_600_001);
    expect(await (await dock.download({ ...row, expiresAt: null })).bytes()).toEqual(bytes);
    expect(gets()).toBe(2);
  });

  test("what is not completed, or not there, says so", async () => {
    const dock = world.connect().client.dock(dockId);
    const { id: pending } = await dock.create({ filename: "b.bin" });
    expect(await failure(dock.download(pending))).toMatchObject({ code: "not_completed" });
    expect(await failure(dock.download("art_none"))).toMatchObject({ code: "not_found" });
    expect(await failure(dock.get("../other"))).toBeInstanceOf(TypeError);
  });

  test.each([
    ["other bytes", { "content-length": "5000" }, someBytes(5_000), "integrity_mismatch"],
    ["more bytes", {}, someBytes(5_001), "protocol"],
  ] as const)("%s than the artifact's are no success", async (_name, headers, body, code) => {
    const dock = world.connect().client.dock(dockId);
    const row = (await dock.list()).data[0]!;
    const lying = (): Promise<Response> => Promise.resolve(new Response(body, { headers }));
    const { client } = world.connect({
      fetch: async (request) =>
        BLOBS.test(new URL(request.url).pathname) ? lying() : world.harness.app.fetch(request),
    });
    const open = (verify?: boolean) => client.dock(dockId).download(row, { verify });
    expect(await failure((await open()).bytes())).toMatchObject({ code });
    // The stream does not end, either: its last chunk is held back.
    expect(await failure(new Response((await open()).stream).arrayBuffer())).toMatchObject({ code });
    if (code === "integrity_mismatch") expect(await (await open(false)).bytes()).toEqual(body);
  });

  test("a server that ignores or mistakes ranges is understood, or refused", async () => {
    const row = (await world.connect().client.dock(dockId).list()).data[0]!;
    const served = (respond: () => Response) =>
      world
        .connect({ fetch: async () => respond() })
        .client.dock(dockId)
        .download(row, { range: { start: 7, end: 4_999 } });
    expect(await failure(served(() => new Response(bytes)).then((it) => it.bytes()))).toMatchObject({
      code: "protocol",
    });
    const upToEnd = world
      .connect({ fetch: async () => new Response(streamOf(bytes, [3, 100])) })
      .client.dock(dockId);
    const tail = await upToEnd.download(row, { range: { start: 7 } });
    expect(await tail.bytes()).toEqual(bytes.slice(7));
    const other = served(
      () =>
        new Response(bytes.slice(8, 4_999), {
          status: 206,
          headers: { "Content-Range": "bytes 8-4998/5000" },
        }),
    );
    expect(await failure(other)).toMatchObject({ code: "protocol" });
  });

  test.each(["cancelled", "aborted"])("a stream that is %s lets go of its connection", async (how) => {
    const row = (await world.connect().client.dock(dockId).list()).data[0]!;
    let isLetGo = (): void => {};
    const letGo = new Promise<void>((resolve) => (isLetGo = resolve));
    const endless = new ReadableStream<Uint8Array>({
      pull: (stream) => stream.enqueue(bytes.slice(0, 1)),
      cancel: () => isLetGo(),
    });
    const { client } = world.connect({ fetch: async () => new Response(endless) });
    const controller = new AbortController();
    const { stream } = await client.dock(dockId).download(row, { signal: controller.signal });
    const reader = stream.getReader();
    await reader.read();
    if (how === "cancelled") {
      await reader.cancel();
    } else {
      const reason = new Error("enough");
      controller.abort(reason);
      expect(await failure(reader.read())).toBe(reason);
    }
    await letGo;
  });

  test("a body on which nothing moves is given up and taken up again", async () => {
    const stalled = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(bytes.slice(0, 10)),
    });
    let first = true;
    const { client } = world.connect({
      timeoutMs: 20,
      // A busy machine may be as slow as that by itself.
      retry: { attempts: 1_000 },
      fetch: async (request) => {
        if (!BLOBS.test(new URL(request.url).pathname) || !first) return world.harness.app.fetch(request);
        first = false;
        return new Response(stalled);
      },
    });
    const row = (await world.connect().client.dock(dockId).list()).data[0]!;
    const download = await client.dock(dockId).download(row, { resumes: 1_000 });
    expect(await download.bytes()).toEqual(bytes);
  });
});

describe("errors", () => {
  test("say what the server says, in both faces' words", async () => {
    const { harness, connect } = world;
    const { dock } = connect();
    const issues = await failure(dock.create({ filename: "", size: -1 }));
    expect(issues).toMatchObject({ name: "DocyardApiError", code: "invalid_argument", status: 400 });
    expect((issues as DocyardApiError).issues).toHaveLength(2);
    expect((issues as DocyardApiError).message).toContain("filename should not be empty");
    expect((issues as DocyardApiError).requestId).toMatch(/^[\w-]{36}$/);

    const missing = await failure(connect().client.dock("dock_none").list());
    expect(missing).toMatchObject({ code: "not_found", status: 404, issues: undefined });

    const reader = connect({ scopes: ["artifacts:read"] }).client.dock(world.dockId);
    expect(await failure(reader.create({ filename: "a" }))).toMatchObject({
      code: "permission_denied",
      message: "Insufficient scope. Required: artifacts:write",
    });
    const wrong = connect({ clientSecret: "dys_live_wrong" }).client.dock(world.dockId);
    expect(await failure(wrong.list())).toMatchObject({ code: "unauthenticated", status: 401 });

    const studio = createStudioClient({
      baseUrl: PUBLIC_URL,
      apiKey: "dk_live_wrong",
      fetch: async (request) => harness.app.fetch(request),
    });
    expect(await failure(studio.list())).toMatchObject({
      code: "unauthenticated",
      message: "Missing or invalid API key",
    });
  });

  test("a limit tells how long to wait, and too long a wait is left to the caller", async () => {
    const limited = await openClientWorld({
      settings: { limits: { ...FREE.limits, list: { max: 1, windowMs: 3_600_000 } } },
    });
    onTestFinished(() => limited.harness.close());
    const { dock, waits, net } = limited.connect();
    await dock.list();
    const error = await failure(dock.list());
    expect(error).toMatchObject({ code: "rate_limited", status: 429 });
    expect((error as DocyardApiError).retryAfterMs).toBeGreaterThan(3_500_000);
    expect(waits).toEqual([]);
    expect(net.count("GET")).toBe(2);
  });

  const PAGE = "<html>dys_live_secret https://a/b?signature=1</html>";
  test.each<readonly [string, Fate]>([
    ["refused", "refused"],
    ["lost", "lost"],
    ["a proxy's page", { status: 502, body: PAGE }],
    ["a redirect", { status: 307, headers: { Location: "https://elsewhere.example/?signature=1" } }],
    ["a page that is no JSON", { status: 200, body: PAGE }],
    ["an envelope that repeats too much", { status: 400, body: JSON.stringify({ message: `bad ${PAGE}` }) }],
    ["issues that do", { status: 400, body: JSON.stringify({ message: [PAGE, 7] }) }],
    ["an expired URL", { status: 403, body: "<Error><StringToSign>signature=1</StringToSign></Error>" }],
  ])("hold no secret, token or signed URL: %s", async (_name, fate) => {
    for (const isMeant of [
      /^POST .*oauth/,
      /^POST .*artifacts$/,
      /^PUT/,
      /complete/,
      /^GET .*artifacts$/,
      /^GET .*blobs/,
    ]) {
      const { dock } = await emptyDock({ retry: { attempts: 1 } }, Array(20).fill(fate), isMeant);
      const work = async (): Promise<void> => {
        await dock.upload(someBytes(), { filename: "a.bin" });
        const { data } = await dock.list();
        await (await dock.download(data[0]!, { resumes: 0 })).bytes();
      };
      const error = await work().catch((failed: unknown) => failed);
      // A PUT or GET of bytes needs no JSON: a page with status 200 is a success, or found out by its digest.
      expect(error, `${isMeant}`).toBeInstanceOf(DocyardApiError);
      const said = inspect(error, { depth: 9, showHidden: true }) + (error as Error).stack;
      expect(said).not.toMatch(/signature=|dy[st]_live_\w|Bearer/);
      expect(said).not.toContain(world.credentials.clientSecret);
    }
  });

  test("wrong options are refused at once, and not repeated in words", () => {
    const options = { ...world.credentials, baseUrl: PUBLIC_URL };
    expect(() => createClient({ ...options, baseUrl: "files.example.com" })).toThrow(TypeError);
    expect(() => createClient({ ...options, baseUrl: "ftp://files.example.com" })).toThrow(TypeError);
    expect(() => createClient({ ...options, baseUrl: "https://user:secret@files.example.com" })).toThrow(
      /^(?!.*secret)/,
    );
    expect(() => createClient({ ...options, clientSecret: "" })).toThrow(TypeError);
    expect(() => createClient({ ...options, retry: { attempts: 0 } })).toThrow(RangeError);
    expect(() => createClient({ ...options, retry: { baseMs: -1 } })).toThrow(RangeError);
    expect(() => createClient({ ...options, timeoutMs: 0 })).toThrow(RangeError);
    expect(() => createClient(options).dock("a/b")).toThrow(TypeError);
    // What is not known is what is left out.
    const unknown = { attempts: undefined, baseMs: undefined, maxMs: undefined, retryAfterMaxMs: undefined };
    const retry = { ...unknown, sleep: undefined, random: undefined };
    createClient({ ...options, retry, fetch: undefined, now: undefined, timeoutMs: undefined });
    expect(() => createStudioClient({ baseUrl: PUBLIC_URL, apiKey: "dk_live_x\n" })).toThrow(
      /^(?!.*dk_live_x)/,
    );
  });
});

describe("a signal", () => {
  const reason = new Error("the user went home");

  /** Aborts once something has begun, and gives what came of it. */
  async function aborted(
    begin: (signal: AbortSignal, isBegun: () => void) => Promise<unknown>,
  ): Promise<unknown> {
    const controller = new AbortController();
    return failure(begin(controller.signal, () => queueMicrotask(() => controller.abort(reason))));
  }

  const hang = (): Promise<never> => new Promise(() => {});

  test.each(["oauth", "artifacts$", "blobs", "complete"])("ends a call that hangs at %s", async (where) => {
    const dockId = await world.harness.operator.createDock();
    const error = await aborted((signal, isBegun) => {
      const { client } = world.connect({
        fetch: async (request) => {
          if (!new RegExp(where).test(new URL(request.url).pathname)) return world.harness.app.fetch(request);
          isBegun();
          return hang();
        },
      });
      return client.dock(dockId).upload(someBytes(), { filename: "a.bin", signal });
    });
    expect(error).toBe(reason);
  });

  test("ends the wait before another try, with the usual timer, too", async () => {
    const error = await aborted((signal, isBegun) => {
      const client = createClient({
        ...world.credentials,
        baseUrl: PUBLIC_URL,
        retry: { baseMs: 1e9, maxMs: 1e9, random: () => 0.9 },
        fetch: async (request) => {
          if (request.method === "POST") return world.harness.app.fetch(request);
          setTimeout(isBegun, 1);
          return new Response("", { status: 503 });
        },
      });
      return client.dock(world.dockId).list({}, { signal });
    });
    expect(error).toBe(reason);
  });

  test("ends a download while it is read, and an upload while it is sent", async () => {
    const { dock } = await emptyDock();
    const { id } = await dock.upload(someBytes(2 * 1024 ** 2), { filename: "a.bin" });
    const read = await aborted(async (signal, isBegun) => {
      const download = await dock.download(id, {
        signal,
        onProgress: ({ loaded }) => loaded > 0 && isBegun(),
      });
      return download.bytes();
    });
    expect(read).toBe(reason);
    let isCancelled = false;
    const sent = await aborted((signal, isBegun) => {
      const endless = new ReadableStream<Uint8Array>({
        async pull(controller) {
          await Promise.resolve();
          controller.enqueue(someBytes(10));
          isBegun();
        },
        cancel: () => void (isCancelled = true),
      });
      return dock.upload(endless, { filename: "b.bin", signal });
    });
    expect(sent).toBe(reason);
    expect(isCancelled).toBe(true);
  });

  test("lets go of a download that is opened and never read, or not read on", async () => {
    const { dock, dockId } = await emptyDock();
    await dock.upload(someBytes(100), { filename: "a.bin" });
    const row = (await dock.list()).data[0]!;
    for (const isBegun of [false, true]) {
      const controller = new AbortController();
      let isLetGo = (): void => {};
      const letGo = new Promise<void>((resolve) => (isLetGo = resolve));
      const body = new ReadableStream<Uint8Array>({
        pull: (stream) => stream.enqueue(new Uint8Array(1)),
        cancel: () => isLetGo(),
      });
      const { client } = world.connect({ fetch: async () => new Response(body) });
      const { stream } = await client.dock(dockId).download(row, { signal: controller.signal });
      const reader = stream.getReader();
      if (isBegun) await reader.read();
      controller.abort(reason);
      await letGo;
      expect(await failure(reader.read())).toBe(reason);
    }
  });

  test("ends a hash whose source gives nothing", async () => {
    let isCancelled = false;
    const silent = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
    const error = await aborted(async (signal, isBegun) => {
      const digest = clientSha256(silent, { signal });
      isBegun();
      return digest;
    });
    expect(error).toBe(reason);
    expect(isCancelled).toBe(true);
  });

  test("that has aborted before lets nothing begin", async () => {
    const { dock, net } = await emptyDock();
    const signal = AbortSignal.abort(reason);
    expect(await failure(dock.list({}, { signal }))).toBe(reason);
    expect(await failure(dock.upload("text", { filename: "a", signal }))).toBe(reason);
    expect(await failure(dock.download("art_none", { signal }))).toBe(reason);
    expect(await failure(clientSha256(streamOf(someBytes()), { signal }))).toBe(reason);
    expect(net.seen).toEqual([]);
  });

  test("ends one caller's wait for a token, not the others'", async () => {
    let answer: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => (answer = resolve));
    const { client, net } = world.connect({
      fetch: async (request) => {
        if (request.url.includes("oauth")) await gate;
        return world.harness.app.fetch(request);
      },
    });
    expect(net.seen).toEqual([]);
    const dock = client.dock(world.dockId);
    const controller = new AbortController();
    const mine = failure(dock.list({}, { signal: controller.signal }));
    const others = dock.list();
    controller.abort(reason);
    expect(await mine).toBe(reason);
    answer!();
    expect(await others).toMatchObject({ data: [] });
  });

  test("ends the request for a token when it was the last to wait for it, and the next asks anew", async () => {
    const signals: AbortSignal[] = [];
    const { client } = world.connect({
      fetch: async (request, init) => {
        if (!request.url.includes("oauth") || signals.length > 0) return world.harness.app.fetch(request);
        signals.push(init!.signal!);
        return hang();
      },
    });
    const dock = client.dock(world.dockId);
    const [first, second] = [new AbortController(), new AbortController()];
    const calls = [first, second].map(async ({ signal }) => failure(dock.list({}, { signal })));
    first.abort(reason);
    expect(await calls[0]).toBe(reason);
    expect(signals[0]!.aborted).toBe(false);
    second.abort(reason);
    expect(await calls[1]).toBe(reason);
    expect(signals[0]!.aborted).toBe(true);
    expect(await dock.list()).toMatchObject({ data: [] });
  });
});

test("a refusal that comes late, of a token that has been renewed since, costs no second renewal", async () => {
  const { app } = world.harness;
  let first: string | null = null;
  let release = (): void => {};
  const late = new Promise<void>((resolve) => (release = resolve));
  let renewals = 0;
  const { dock } = world.connect({
    fetch: async (request) => {
      if (request.url.includes("oauth")) renewals += 1;
      const token = request.headers.get("authorization");
      if (token !== null) first ??= token;
      if (token === null || token !== first) return app.fetch(request);
      if (request.url.includes("limit=7")) await late;
      return new Response("", { status: 401 });
    },
  });
  const slow = dock.list({ limit: 7 });
  await dock.list();
  release();
  expect(await slow).toMatchObject({ data: [] });
  expect(renewals).toBe(2);
});

test("a server that says nothing is given up after the time limit, and asked again", async () => {
  let calls = 0;
  const { dock } = world.connect({
    timeoutMs: 30,
    retry: { attempts: 1_000 },
    fetch: async (request) => {
      if (request.method === "GET" && calls++ < 2) return new Promise<Response>(() => {});
      return world.harness.app.fetch(request);
    },
  });
  expect(await dock.list()).toMatchObject({ data: [] });
  expect(calls).toBeGreaterThanOrEqual(3);
});
