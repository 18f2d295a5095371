/** The S3 driver against a real server: what it promises, what the server enforces, and what neither may let through. */

import { PutObjectCommand, CreateMultipartUploadCommand, type S3Client } from "@aws-sdk/client-s3";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { s3Blobs, type S3Blobs, type S3BlobsOptions } from "@docyard/adapters/blob/s3";
import { partSizeFor } from "../../packages/adapters/src/blob/s3-put.ts";
import { validity } from "../../packages/adapters/src/blob/s3-sign.ts";
import { openBucket } from "../../packages/adapters/src/s3-bucket.ts";
import { copyRanges, copyVerified } from "../../packages/adapters/src/blob/s3-copy.ts";
import * as fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { freshBucket, s3Client, startCeph, type CephService, type FreshBucket } from "./index.ts";

const MIB = 1024 ** 2;
const HOUR = 3_600_000;

let bucket: FreshBucket;
let client: S3Client;
const opened: S3Blobs[] = [];

beforeAll(async () => {
  bucket = await freshBucket();
  client = s3Client(bucket);
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});
afterAll(async () => {
  client.destroy();
  await bucket.remove();
});

async function open(options: Partial<S3BlobsOptions> = {}): Promise<S3Blobs> {
  const store = await s3Blobs({
    bucket: bucket.bucket,
    prefix: `${bucket.prefix}t${randomBytes(6).toString("hex")}`,
    endpoint: bucket.endpoint,
    region: bucket.region,
    credentials: { accessKeyId: bucket.accessKeyId, secretAccessKey: bucket.secretAccessKey },
    ...options,
  });
  opened.push(store);
  return store;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function* chunks(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array> {
  // One buffer for all chunks, overwritten each time: a driver that keeps a chunk keeps the wrong bytes.
  const shared = Buffer.alloc(Math.min(size, Math.max(1, bytes.length)));
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    shared.set(part);
    yield shared.subarray(0, part.length);
  }
}

async function read(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of body) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

const put = (store: S3Blobs, key: string, bytes: Uint8Array) =>
  store.put(key, chunks(bytes), { sizeMax: 1024 * MIB });

const grant = { expiresAt: 0, sizeMax: 100 * MIB, artifactId: "artifact_1" };
const signing = (more: object = {}) => ({ ...grant, expiresAt: Date.now() + HOUR, ...more });
const getting = (bytes: Uint8Array, more: object = {}) => ({
  expiresAt: Date.now() + HOUR,
  filename: "report.pdf",
  contentType: "application/pdf",
  size: bytes.length,
  digest: sha256(bytes),
  artifactId: "artifact_1",
  principalId: "client_1",
  ...more,
});

describe("laws", () => {
  test("bytes come back as they went, whole and in any range", async () => {
    const store = await open();
    const range = fc.tuple(fc.nat(), fc.nat());
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 5_000 }),
        range,
        fc.integer({ min: 1, max: 999 }),
        async (bytes, [a, b], size) => {
          const key = `law/${randomBytes(4).toString("hex")}`;
          const stored = await store.put(key, chunks(bytes, size), { sizeMax: 5_000 });
          expect(stored).toEqual({ size: bytes.length, digest: sha256(bytes) });
          expect(await store.stat(key)).toMatchObject({ size: bytes.length });
          expect(await store.digest(key)).toEqual(stored);
          const [start, end] = [a % (bytes.length + 1), b % (bytes.length + 1)].sort((x, y) => x - y) as [
            number,
            number,
          ];
          const part = await store.get(key, { range: { start, end } });
          expect(part.size).toBe(bytes.length);
          expect(await read(part.body)).toEqual(Buffer.from(bytes.subarray(start, end)));
        },
      ),
      { numRuns: 25 },
    );
  });

  test("parts of one size hold any allowed body, and there are never too many (R-02, R-03)", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5 * 1024 ** 4 }),
        fc.integer({ min: 5 * MIB, max: 100 * MIB }),
        fc.integer({ min: 1_100, max: 10_000 }),
        (sizeMax, size, max) => {
          const part = partSizeFor(sizeMax, { size, max });
          expect(part).toBeGreaterThanOrEqual(size);
          expect(part * max).toBeGreaterThanOrEqual(sizeMax);
        },
      ),
    );
  });

  test("the ranges of a copy cover the object once, without hole or overlap", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.integer({ min: 1_000, max: 50_000 }),
        (size, part) => {
          let next = 0;
          for (const range of copyRanges(size, part)) {
            const [start, last] = range.slice("bytes=".length).split("-").map(Number) as [number, number];
            expect(start).toBe(next);
            expect(last - start).toBeLessThan(part);
            next = last + 1;
          }
          expect(next).toBe(size);
        },
      ),
    );
  });

  test("no signature outlives what was asked by a second, or a week, or what is past by a moment", () => {
    const time = fc.integer({ min: 1_000_000, max: 4_000_000_000_000 });
    fc.assert(
      fc.property(time, time, (expiresAt, now) => {
        const { signingDate, expiresIn } = validity(expiresAt, now);
        expect(expiresIn).toBeGreaterThanOrEqual(1);
        expect(expiresIn).toBeLessThanOrEqual(7 * 86_400);
        const end = signingDate.getTime() + expiresIn * 1000;
        expect(end - expiresAt).toBeLessThan(1_000);
        expect(end <= expiresAt || expiresAt > now).toBe(true);
        expect(signingDate.getTime()).toBeLessThanOrEqual(now);
      }),
    );
  });
});

describe("uploads by this process", () => {
  test("a long stream goes in equal parts, is verified by its digest, and leaves no upload open", async () => {
    const store = await open({ partSize: 5 * MIB });
    const bytes = randomBytes(12 * MIB + 17);
    expect(await put(store, "long", bytes)).toEqual({ size: bytes.length, digest: sha256(bytes) });
    expect(await store.digest("long")).toEqual({ size: bytes.length, digest: sha256(bytes) });
    const { body } = await store.get("long", { range: { start: 5 * MIB - 3, end: 10 * MIB + 3 } });
    expect(sha256(await read(body))).toBe(sha256(bytes.subarray(5 * MIB - 3, 10 * MIB + 3)));
    expect(await bucket.openUploads()).toEqual([]);
  });

  test.each([0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB])("a body of %i bytes", async (size) => {
    const store = await open({ partSize: 5 * MIB });
    const bytes = randomBytes(size);
    await put(store, "edge", bytes);
    expect(await store.digest("edge")).toEqual({ size, digest: sha256(bytes) });
  });

  test.each([3, 12 * MIB])("a body over %i bytes is refused, and nothing has changed", async (sizeMax) => {
    const store = await open({ partSize: 5 * MIB });
    await put(store, "key", Buffer.from("before"));
    const body = chunks(Buffer.alloc(sizeMax + 1));
    await expect(store.put("key", body, { sizeMax })).rejects.toMatchObject({ code: "too_large" });
    expect(await store.digest("key")).toEqual({ size: 6, digest: sha256(Buffer.from("before")) });
    expect(await bucket.openUploads()).toEqual([]);
  });

  test("a body that rejects mid-way leaves what was there, and no upload", async () => {
    const store = await open({ partSize: 5 * MIB });
    await put(store, "key", Buffer.from("before"));
    const body = async function* () {
      yield randomBytes(11 * MIB);
      throw new Error("the client went away");
    };
    await expect(store.put("key", body(), { sizeMax: 99 * MIB })).rejects.toThrow("the client went away");
    expect(await store.stat("key")).toMatchObject({ size: 6 });
    expect(await bucket.openUploads()).toEqual([]);
  });

  test("a signal ends an upload whose body is stuck", async () => {
    const store = await open({ partSize: 5 * MIB });
    const stop = new AbortController();
    const body = async function* () {
      yield randomBytes(6 * MIB);
      setTimeout(() => stop.abort(new Error("enough")), 20);
      await new Promise(() => {});
    };
    const putting = store.put("stuck", body(), { sizeMax: 99 * MIB, signal: stop.signal });
    await expect(putting).rejects.toThrow("enough");
    expect(await store.stat("stuck")).toBeNull();
    expect(await bucket.openUploads()).toEqual([]);
  });

  test("dropUnfinished removes what a crash left, and only what is old and under the prefix", async () => {
    const prefix = `${bucket.prefix}mine`;
    const store = await open({ prefix });
    const begin = (Key: string) =>
      client.send(new CreateMultipartUploadCommand({ Bucket: bucket.bucket, Key }));
    await begin(`${prefix}/left`);
    await begin(`${bucket.prefix}other/upload`);
    expect(await store.dropUnfinished(Date.now() - HOUR)).toBe(0);
    expect(await store.dropUnfinished(Date.now() + HOUR)).toBe(1);
    expect(await bucket.openUploads()).toEqual([`${bucket.prefix}other/upload`]);
    const others = await open({ prefix: `${bucket.prefix}other` });
    expect(await others.dropUnfinished(Date.now() + HOUR)).toBe(1);
  });
});

describe("reading", () => {
  test("what is not there", async () => {
    const store = await open();
    await expect(store.get("none")).rejects.toMatchObject({ code: "not_found" });
    await expect(store.get("none", { range: { start: 0, end: 0 } })).rejects.toMatchObject({
      code: "not_found",
    });
    expect(await store.stat("none")).toBeNull();
    expect(await store.digest("none")).toBeNull();
    await store.delete("none");
  });

  test.each([
    [0, 7],
    [6, 9],
    [7, 8],
    [4, 3],
    [-1, 2],
  ])("a range %i..%i outside six bytes is a RangeError", async (start, end) => {
    const store = await open();
    await put(store, "six", Buffer.from("sixsix"));
    await expect(store.get("six", { range: { start, end } })).rejects.toBeInstanceOf(RangeError);
  });

  test("a corrupted object is what digest says, not what was stored", async () => {
    const store = await open({ prefix: `${bucket.prefix}corrupt` });
    const bytes = Buffer.from("the right bytes");
    const stored = await put(store, "key", bytes);
    const wrong = { Bucket: bucket.bucket, Key: `${bucket.prefix}corrupt/key`, Body: "the wrong bytes" };
    await client.send(new PutObjectCommand(wrong));
    const found = await store.digest("key");
    expect(found).toEqual({ size: bytes.length, digest: sha256(Buffer.from("the wrong bytes")) });
    expect(found).not.toEqual(stored);
  });

  test("list: in order, after a key, at most so many, over pages, without others' keys", async () => {
    const store = await open({ prefix: `${bucket.prefix}list` });
    const keys = Array.from({ length: 25 }, (_, i) => `a/${String((i * 7) % 25).padStart(2, "0")}`);
    for (const key of [...keys, "b"]) await put(store, key, Buffer.from(key));
    for (const Key of ["list/.docyard/ready-1", "list/a/not a key", "listing/a/00"]) {
      await client.send(
        new PutObjectCommand({ Bucket: bucket.bucket, Key: bucket.prefix + Key, Body: "other" }),
      );
    }
    const sorted = keys.toSorted();
    const names = async (prefix: string, after: string | undefined, limit: number) =>
      (await store.list(prefix, { limit, ...(after === undefined ? {} : { after }) })).map(({ key }) => key);
    expect(await names("a/", undefined, 1_000)).toEqual(sorted);
    expect(await names("", undefined, 1_000)).toEqual([...sorted, "b"]);
    expect(await names("a/", "a/09", 3)).toEqual(["a/10", "a/11", "a/12"]);
    expect(await names("a/", "a/24", 3)).toEqual([]);
    expect(await names("a/", undefined, 0)).toEqual([]);
    const { size, modifiedAt } = (await store.list("b", { limit: 1 }))[0]!;
    expect(size).toBe(1);
    expect(Math.abs(Date.now() - modifiedAt)).toBeLessThan(HOUR);
  });
});

test("a page without a key is not the end of a list, and one that leads nowhere is no list", async () => {
  const page = (rest: string): string => `<ListBucketResult>${rest}</ListBucketResult>`;
  const object =
    "<Contents><Key>a</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>";
  const pages = new Map([
    [null, page("<IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken>")],
    ["2", page(`<IsTruncated>true</IsTruncated><NextContinuationToken>3</NextContinuationToken>${object}`)],
    ["3", page("<IsTruncated>false</IsTruncated>")],
  ]);
  const server = createServer(({ url }, target) => {
    const token = new URL(url ?? "", "http://s3").searchParams.get("continuation-token");
    target.writeHead(200, { "content-type": "application/xml" }).end(pages.get(token));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const store = await open({ endpoint: `http://127.0.0.1:${port}`, prefix: "" });
  expect((await store.list("", { limit: 10 })).map(({ key }) => key)).toEqual(["a"]);
  pages.set("3", page("<IsTruncated>true</IsTruncated>"));
  await expect(store.list("", { limit: 10 })).rejects.toThrow("not where the rest begins");
  await shut(server);
});

describe("copy", () => {
  const staged = async (store: S3Blobs, bytes: Uint8Array) => {
    await put(store, "incoming/u1", bytes);
    return { size: bytes.length, digest: sha256(bytes) };
  };

  test.each([0, 5, 8 * MIB, 8 * MIB + 1])(
    "%i bytes: true, as often as asked, and nothing else is left",
    async (size) => {
      const store = await open();
      const expected = await staged(store, randomBytes(size));
      expect(await store.copy("incoming/u1", "final", expected)).toBe(true);
      expect(await store.copy("incoming/u1", "final", expected)).toBe(true);
      expect(await store.digest("final")).toEqual(expected);
      await store.delete("incoming/u1");
      expect(await store.copy("incoming/u1", "final", expected)).toBe(true);
      expect((await store.list("", { limit: 9 })).map(({ key }) => key)).toEqual(["final"]);
    },
  );

  test.each([5, 8 * MIB + 1])(
    "%i bytes that are others by now, of the same size: false, and none of them get through",
    async (size) => {
      const store = await open();
      const expected = await staged(store, randomBytes(size));
      await put(store, "incoming/u1", randomBytes(size));
      expect(await store.copy("incoming/u1", "final", expected)).toBe(false);
      expect(await store.copy("incoming/none", "final", expected)).toBe(false);
      expect(await store.stat("final")).toBeNull();
      expect((await store.list("", { limit: 9 })).map(({ key }) => key)).toEqual(["incoming/u1"]);
    },
  );

  test("bytes of another size are false at once", async () => {
    const store = await open();
    const expected = await staged(store, randomBytes(5));
    await put(store, "incoming/u1", randomBytes(6));
    expect(await store.copy("incoming/u1", "final", expected)).toBe(false);
  });

  test("what is too long for one copy goes in parts, verified like the rest", async () => {
    const prefix = `${bucket.prefix}parts`;
    const store = await open({ prefix });
    const { endpoint, region, bucket: name } = bucket;
    const opened = await openBucket(
      { bucket: name, endpoint, region, credentials: bucket },
      new AbortController().signal,
    );
    const limits = { inlineMax: 0, singleMax: 6 * MIB, partBytes: 5 * MIB };
    const expected = await staged(store, randomBytes(12 * MIB));
    const copy = { from: `${prefix}/incoming/u1`, to: `${prefix}/final`, expected };
    const others = { ...expected, digest: sha256(Buffer.from("others")) };
    expect(await copyVerified(opened, { ...copy, expected: others }, limits)).toBe(false);
    expect(await store.stat("final")).toBeNull();
    expect(await copyVerified(opened, copy, limits)).toBe(true);
    expect(await store.digest("final")).toEqual(expected);
    expect(await bucket.openUploads()).toEqual([]);
    opened.destroy();
  });

  test("uploads racing a copy never change what the final key holds", async () => {
    const store = await open();
    const size = 8 * MIB + 1;
    const [right, wrong] = [randomBytes(size), randomBytes(size)];
    const expected = { size, digest: sha256(right) };
    for (let round = 0; round < 6; round++) {
      const final = `final-${round}`;
      await put(store, "incoming/u1", right);
      const [copied] = await Promise.all([
        store.copy("incoming/u1", final, expected),
        put(store, "incoming/u1", wrong),
      ]);
      expect(await store.digest(final)).toEqual(copied ? expected : null);
    }
  });
});

describe("presigned uploads", () => {
  const send = (
    signed: { url: string; headers: Readonly<Record<string, string>> },
    body: Uint8Array,
    headers: object = {},
  ) =>
    fetch(signed.url, { method: "PUT", body: Buffer.from(body), headers: { ...signed.headers, ...headers } });
  const bytes = Buffer.from("bytes of a client");

  test("are accepted again and again, with any content type, and read back the same", async () => {
    const store = await open();
    const signed = await store.signPut("up", signing());
    expect((await send(signed, Buffer.from("first"))).status).toBe(200);
    expect((await send(signed, bytes, { "content-type": "text/x-whatever" })).status).toBe(200);
    expect(await store.digest("up")).toEqual({ size: bytes.length, digest: sha256(bytes) });
    expect(signed).toMatchObject({ method: "PUT", headers: {} });
  });

  test("hold the client to the declared size, and to the digest where the header is asked for", async () => {
    const store = await open({ signDigest: "header" });
    const signed = await store.signPut("up", signing({ size: bytes.length, digest: sha256(bytes) }));
    const checksum = Buffer.from(sha256(bytes), "hex").toString("base64");
    expect(signed.headers).toEqual({ "x-amz-checksum-sha256": checksum });
    expect((await send(signed, Buffer.from("longer than what was declared"))).status).toBe(403);
    const other = { "x-amz-checksum-sha256": randomBytes(32).toString("base64") };
    expect((await send(signed, bytes, other)).status).toBe(403);
    expect((await send({ ...signed, headers: {} }, bytes)).status).toBe(403);
    expect(await store.stat("up")).toBeNull();
    expect((await send(signed, bytes)).status).toBe(200);
  });

  test("a body that is not the declared one passes servers that trust headers, and is caught by digest", async () => {
    const store = await open();
    const signed = await store.signPut("up", signing({ size: 5, digest: sha256(Buffer.from("right")) }));
    const answer = await send(signed, Buffer.from("wrong"));
    const found = await store.digest("up");
    expect(found === null ? answer.status : found.digest).toEqual(
      found === null ? 400 : sha256(Buffer.from("wrong")),
    );
    expect((await store.stat("up"))?.digest ?? null).toBeNull();
  });

  test.each([undefined, "query", "off"] as const)(
    "digest bound by %s: the client sends no header",
    async (signDigest) => {
      const store = await open(signDigest === undefined ? {} : { signDigest });
      const signed = await store.signPut("up", signing({ digest: sha256(bytes) }));
      expect(signed.headers).toEqual({});
      expect(new URL(signed.url).searchParams.has("x-amz-checksum-sha256")).toBe(signDigest !== "off");
      expect((await send(signed, bytes)).status).toBe(200);
    },
  );

  test("expired, tampered and unsigned ones are 403, and nothing is stored", async () => {
    const store = await open();
    const expired = await store.signPut("up", signing({ expiresAt: Date.now() - 1_000 }));
    expect((await send(expired, bytes)).status).toBe(403);
    const signed = await store.signPut("up", signing());
    const tampered = (change: (url: URL) => void) => {
      const url = new URL(signed.url);
      change(url);
      return send({ url: url.href, headers: {} }, bytes);
    };
    const changes: ((url: URL) => void)[] = [
      (url) => (url.pathname += "x"),
      (url) => url.searchParams.set("X-Amz-Expires", "604800"),
      (url) => url.searchParams.set("X-Amz-Date", "20990101T000000Z"),
      (url) => url.searchParams.set("X-Amz-Signature", "0".repeat(64)),
      (url) => (url.search = ""),
    ];
    for (const change of changes) expect((await tampered(change)).status).toBe(403);
    expect((await fetch(signed.url)).status).toBe(403);
    expect(await store.stat("up")).toBeNull();
  });

  test("never carry a CRC, whatever mode the client is in: the whole of what is signed (R-01)", async () => {
    for (const checksums of ["required", "supported"] as const) {
      const store = await open({ checksums });
      const names = (url: string) => [...new URL(url).searchParams.keys()].sort();
      const plain = [
        "X-Amz-Algorithm",
        "X-Amz-Content-Sha256",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
      ];
      plain.push("X-Amz-Signature", "X-Amz-SignedHeaders", "x-id");
      const declared = await store.signPut("up", signing({ size: 5, digest: sha256(bytes) }));
      expect(names(declared.url)).toEqual([...plain.slice(0, -1), "x-amz-checksum-sha256", "x-id"]);
      expect(new URL(declared.url).searchParams.get("X-Amz-SignedHeaders")).toBe("content-length;host");
      const bare = await store.signPut("up", signing());
      expect(names(bare.url)).toEqual(plain);
      expect(new URL(bare.url).searchParams.get("X-Amz-SignedHeaders")).toBe("host");
      const responses = ["response-cache-control", "response-content-disposition", "response-content-type"];
      const download = await store.signGet("up", getting(bytes));
      expect(names(download.url)).toEqual([...plain.slice(0, -1), ...responses, "x-id"]);
    }
  });

  test("more than one PUT can hold is refused when it is declared", async () => {
    const store = await open();
    const signed = store.signPut("up", signing({ size: 5 * 1024 ** 3 + 1 }));
    await expect(signed).rejects.toMatchObject({ code: "too_large" });
  });

  test("say when they really end: as asked, or after a week", async () => {
    const now = 1_800_000_000_500;
    const store = await open({ now: () => now });
    const signed = await store.signPut("up", { ...grant, expiresAt: now + 1_700 });
    expect(signed.expiresAt).toBe(now + 1_700);
    const long = await store.signPut("up", { ...grant, expiresAt: now + 30 * 24 * HOUR });
    expect(long.expiresAt).toBe(1_800_000_000_000 + 7 * 24 * HOUR);
  });
});

describe("presigned downloads", () => {
  const bytes = Buffer.from("0123456789");

  test.each([
    "report.pdf",
    "Zürich – Überblick.pdf",
    "日本語.txt",
    'quo"te; filename=evil.exe',
    "100% (sure)'*.txt",
    "😀",
  ])("hand out %s under its exact name", async (filename) => {
    const store = await open();
    await put(store, "down", bytes);
    const signed = await store.signGet("down", getting(bytes, { filename }));
    const answer = await fetch(signed.url);
    expect(answer.status).toBe(200);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
    expect(answer.headers.get("content-type")).toBe("application/pdf");
    const disposition = answer.headers.get("content-disposition") ?? "";
    const [, exact] =
      /^attachment; filename="[ -~]*"; filename\*=UTF-8''([!#$&+.^_`|~%0-9A-Za-z-]+)$/.exec(disposition) ??
      [];
    expect(decodeURIComponent(exact ?? "")).toBe(filename);
  });

  test("a content type that is none is not signed into a header", async () => {
    const store = await open();
    await put(store, "down", bytes);
    const signed = await store.signGet("down", getting(bytes, { contentType: "text/html\r\nX-Evil: 1" }));
    expect((await fetch(signed.url)).headers.get("content-type")).toBe("application/octet-stream");
  });

  test("ranges and conditional requests work", async () => {
    const store = await open();
    await put(store, "down", bytes);
    const { url } = await store.signGet("down", getting(bytes));
    const part = await fetch(url, { headers: { range: "bytes=2-4" } });
    expect([part.status, await part.text()]).toEqual([206, "234"]);
    const etag = part.headers.get("etag") ?? "";
    const again = await fetch(url, { headers: { "if-none-match": etag } });
    expect(again.status).toBe(304);
    await again.text();
  });

  test("expired, tampered, for another key or method: 403", async () => {
    const store = await open();
    await put(store, "down", bytes);
    const { url } = await store.signGet("down", getting(bytes));
    const past = await store.signGet("down", getting(bytes, { expiresAt: Date.now() - 1_000 }));
    const renamed = new URL(url);
    renamed.searchParams.set("response-content-disposition", "inline");
    const elsewhere = new URL(url);
    elsewhere.pathname += "2";
    for (const refused of [past.url, renamed.href, elsewhere.href]) {
      const answer = await fetch(refused);
      expect(answer.status).toBe(403);
      await answer.text();
    }
    expect((await fetch(url, { method: "PUT", body: "x" })).status).toBe(403);
  });

  test("a thousand are cheap: the vendor's whole stack is gone through once", async () => {
    const store = await open();
    const urls = new Set<string>();
    for (let i = 0; i < 1_000; i++) urls.add((await store.signGet(`key/${i}`, getting(bytes))).url);
    expect(urls.size).toBe(1_000);
  });
});

function passOn(answer: IncomingMessage, target: ServerResponse): void {
  target.writeHead(answer.statusCode ?? 502, answer.headers);
  answer.pipe(target);
}

/** Passes requests on to the bucket's server, less the first segment of the path, as a proxy in front of it does. */
async function proxy(
  onResponse: (answer: IncomingMessage, target: ServerResponse, asked: IncomingMessage) => void = passOn,
): Promise<{ server: Server; origin: string }> {
  const upstream = new URL(bucket.endpoint);
  const server = createServer((incoming, target) => {
    const path = (incoming.url ?? "").replace(/^\/files/, "");
    const passed = httpRequest(
      {
        host: upstream.hostname,
        port: upstream.port,
        method: incoming.method,
        path,
        headers: incoming.headers,
      },
      (answer) => onResponse(answer, target, incoming),
    );
    passed.on("error", () => target.destroy());
    incoming.pipe(passed);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return { server, origin: `http://127.0.0.1:${port}` };
}

async function shut(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, "close");
}

describe("a public endpoint behind a proxy with a path (R-09)", () => {
  test("signed URLs work through it, and only they know of it", async () => {
    const { server, origin } = await proxy();
    const store = await open({ publicEndpoint: `${origin}/files/` });
    const bytes = Buffer.from("through the proxy");
    const up = await store.signPut("key", signing({ size: bytes.length, digest: sha256(bytes) }));
    expect(up.url).toMatch(new RegExp(`^${origin}/files/${bucket.bucket}/`));
    expect((await fetch(up.url, { method: "PUT", body: bytes, headers: up.headers })).status).toBe(200);
    expect(await store.digest("key")).toEqual({ size: bytes.length, digest: sha256(bytes) });
    const down = await store.signGet("key", getting(bytes));
    expect(await (await fetch(down.url)).text()).toBe("through the proxy");
    await shut(server);
    // The store itself never needed it.
    expect(await store.stat("key")).toMatchObject({ size: bytes.length });
  });
});

describe("connections that break", () => {
  test("a download is taken up where it broke off, byte for byte", async () => {
    let cut = 0;
    const { server, origin } = await proxy((answer, target) => {
      target.writeHead(answer.statusCode ?? 502, answer.headers);
      let passed = 0;
      answer.on("data", (chunk: Buffer) => {
        passed += chunk.length;
        if (passed > 2 * MIB && cut < 3) {
          cut++;
          target.destroy();
          answer.destroy();
        } else target.write(chunk);
      });
      answer.on("end", () => target.end());
    });
    const direct = await open({ prefix: `${bucket.prefix}broken` });
    const bytes = randomBytes(9 * MIB);
    await put(direct, "key", bytes);
    const store = await open({ prefix: `${bucket.prefix}broken`, endpoint: origin });
    expect(await store.digest("key")).toEqual({ size: bytes.length, digest: sha256(bytes) });
    expect(cut).toBe(3);
    await shut(server);
  });

  test("a download of an object replaced meanwhile fails instead of mixing two", async () => {
    let cut = false;
    const { server, origin } = await proxy((answer, target) => {
      target.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on("data", (chunk: Buffer) => {
        if (cut) return void target.write(chunk);
        cut = true;
        target.write(chunk, () => target.destroy());
        answer.destroy();
      });
      answer.on("end", () => target.end());
    });
    const direct = await open({ prefix: `${bucket.prefix}mixed` });
    await put(direct, "key", randomBytes(4 * MIB));
    const store = await open({ prefix: `${bucket.prefix}mixed`, endpoint: origin });
    const { body } = await store.get("key");
    await put(direct, "key", randomBytes(4 * MIB));
    await expect(read(body)).rejects.toThrow("was replaced");
    await shut(server);
  });

  /** A server that completes uploads, and whose answers to that get lost: when it is asked again, they are unknown. */
  async function forgetful(): Promise<{ server: Server; origin: string; lost: Set<string> }> {
    const lost = new Set<string>();
    const proxied = await proxy((answer, target, asked) => {
      const url = asked.url ?? "";
      if (asked.method !== "POST" || !url.includes("uploadId=")) return passOn(answer, target);
      answer.resume();
      answer.on("end", () => {
        if (!lost.has(url)) {
          lost.add(url);
          target.destroy();
          return;
        }
        const unknown = "<Error><Code>NoSuchUpload</Code></Error>";
        target.writeHead(404, { "content-type": "application/xml" }).end(unknown);
      });
    });
    return { ...proxied, lost };
  }

  test("a completed upload whose answer got lost is found to be complete (R-04)", async () => {
    const { server, origin, lost } = await forgetful();
    const store = await open({ endpoint: origin, partSize: 5 * MIB });
    const bytes = randomBytes(6 * MIB);
    expect(await put(store, "key", bytes)).toEqual({ size: bytes.length, digest: sha256(bytes) });
    expect(lost.size).toBe(1);
    await shut(server);
  });

  test("so is a copy in parts (R-04)", async () => {
    const { server, origin, lost } = await forgetful();
    const prefix = `${bucket.prefix}forgotten`;
    const store = await open({ prefix });
    const bytes = randomBytes(6 * MIB);
    const expected = await put(store, "incoming/u1", bytes);
    const { region, bucket: name } = bucket;
    const opened = await openBucket(
      { bucket: name, endpoint: origin, region, credentials: bucket },
      new AbortController().signal,
    );
    const copy = { from: `${prefix}/incoming/u1`, to: `${prefix}/final`, expected };
    const limits = { inlineMax: 0, singleMax: 5 * MIB, partBytes: 5 * MIB };
    expect(await copyVerified(opened, copy, limits)).toBe(true);
    expect(await store.digest("final")).toEqual(expected);
    expect((await store.list("", { limit: 9 })).map(({ key }) => key)).toEqual(["final", "incoming/u1"]);
    expect(lost.size).toBe(2);
    opened.destroy();
    await shut(server);
  });

  test("a silent server is given up, and the error names no secret", async () => {
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as { port: number };
    const store = await open({ endpoint: `http://127.0.0.1:${port}`, idleTimeoutMs: 100, attempts: 2 });
    const failure = (await store.stat("key").catch((error: unknown) => error)) as Error;
    expect(failure).toBeInstanceOf(Error);
    expect(`${failure.message} ${failure.stack}`).not.toContain(bucket.secretAccessKey);
    await shut(silent);
  });
});

test.each([
  [400, "RequestTimeout"],
  [409, "OperationAborted"],
])("%i %s passes, whatever its status says", async (status, code) => {
  const server = createServer((_, target) =>
    target
      .writeHead(status, { "content-type": "application/xml", connection: "close" })
      .end(`<Error><Code>${code}</Code><Message>try again</Message></Error>`),
  ).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const store = await open({ endpoint: `http://127.0.0.1:${port}`, prefix: "" });
  await expect(store.list("", { limit: 1 })).rejects.toMatchObject({ code: "upstream_failed" });
  await shut(server);
});

test("a refusal without a word is told by its status", async () => {
  const refusing = createServer((_, target) => target.writeHead(403).end()).listen(0, "127.0.0.1");
  await once(refusing, "listening");
  const { port } = refusing.address() as { port: number };
  const store = await open({ endpoint: `http://127.0.0.1:${port}` });
  await expect(store.stat("key")).rejects.toThrow(
    "the object storage answered 403 and no more: check the credentials and what they may do",
  );
  await shut(refusing);
});

describe("what a server says about digests", () => {
  /** A server that answers HEAD with a digest, and accepts or refuses a PUT whose digest is wrong. */
  async function claiming(digest: string, type: string | undefined, refuses: boolean) {
    const removed: string[] = [];
    const server = createServer((incoming, target) => {
      incoming.resume();
      incoming.on("end", () => {
        if (incoming.method === "HEAD") {
          target.setHeader("x-amz-checksum-sha256", digest);
          if (type !== undefined) target.setHeader("x-amz-checksum-type", type);
          target.setHeader("content-length", 5);
          target.end();
        } else if (incoming.method === "DELETE") {
          removed.push(incoming.url ?? "");
          target.writeHead(204).end();
        } else target.writeHead(refuses ? 400 : 200).end();
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const store = await open({ endpoint: `http://127.0.0.1:${port}` });
    const found = await store.stat("key");
    await shut(server);
    return { found, removed };
  }
  const hex = sha256(Buffer.from("12345"));
  const base64 = Buffer.from(hex, "hex").toString("base64");

  test("is believed of one that refuses wrong bytes", async () => {
    expect((await claiming(base64, "FULL_OBJECT", true)).found).toEqual({ size: 5, digest: hex });
    expect((await claiming(base64, undefined, true)).found).toEqual({ size: 5, digest: hex });
  });

  test("is not believed of one that stores them, and the probe is removed", async () => {
    const { found, removed } = await claiming(base64, "FULL_OBJECT", false);
    expect(found).toEqual({ size: 5, digest: null });
    expect(removed).toHaveLength(1);
  });

  test.each([
    [base64, "COMPOSITE"],
    [`${base64}-3`, undefined],
    ["garbage", "FULL_OBJECT"],
  ])("%s of type %s is no digest of the object", async (digest, type) => {
    expect((await claiming(digest, type, true)).found).toEqual({ size: 5, digest: null });
  });
});

describe("a server that goes away", () => {
  let ceph: CephService;
  beforeAll(async () => {
    ceph = await startCeph();
  });
  afterAll(() => ceph.stop());

  test("is an outage that passes: calls say so, and the same store works when it is back", async () => {
    const own = await freshBucket(ceph.access);
    const store = await open({
      ...ceph.access,
      bucket: own.bucket,
      prefix: "",
      attempts: 2,
      credentials: ceph.access,
    });
    await store.ready();
    expect(await own.keys()).toEqual([]);
    await put(store, "key", Buffer.from("kept"));
    await ceph.kill();
    await expect(store.ready()).rejects.toThrow(/^Bucket .* cannot be written and read: /);
    const outage = { code: "upstream_failed", cause: { code: "ECONNREFUSED" } };
    await expect(store.stat("key")).rejects.toMatchObject(outage);
    await expect(put(store, "key", Buffer.from("lost"))).rejects.toMatchObject(outage);
    await ceph.restart();
    await store.ready();
    expect(await read((await store.get("key")).body)).toEqual(Buffer.from("kept"));
    await store.delete("key");
    await own.remove();
  });
});

describe("options and the end", () => {
  test("ready says what is wrong: no such bucket, wrong secret", async () => {
    const missing = await open({ bucket: "docyard-no-such-bucket" });
    await expect(missing.ready()).rejects.toThrow(/docyard-no-such-bucket.*NoSuchBucket/);
    const secret = "wrong-secret-key";
    const refused = await open({ credentials: { accessKeyId: bucket.accessKeyId, secretAccessKey: secret } });
    const failure = (await refused.ready().catch((error: unknown) => error)) as Error;
    expect(failure.message).toMatch(/SignatureDoesNotMatch/);
    expect(failure.message).not.toContain(secret);
  });

  test.each([
    { bucket: "" },
    { bucket: "a/b" },
    { endpoint: "not a url" },
    { endpoint: "ftp://host" },
    { endpoint: "http://user:password@host" },
    { publicEndpoint: "https://host/?x=1" },
    { prefix: "../up" },
    { prefix: "a b" },
    { partSize: 1024 },
    { partsMax: 10_001 },
  ])("%o is a TypeError", async (wrong) => {
    const failure = (await open(wrong).catch((error: unknown) => error)) as Error;
    expect(failure).toBeInstanceOf(TypeError);
    expect(failure.message).not.toContain("password@");
  });

  test.each(["", "/abs", "../up", "a//b", ".hidden", "a b"])("the key %j is a TypeError", async (key) => {
    const store = await open();
    await expect(store.stat(key)).rejects.toBeInstanceOf(TypeError);
    await expect(store.signPut(key, signing())).rejects.toBeInstanceOf(TypeError);
  });

  test("after close every call rejects, and a transfer under way ends", async () => {
    const store = await open();
    await put(store, "key", randomBytes(9 * MIB));
    const { body } = await store.get("key");
    const reading = read(body);
    await store.close();
    await store.close();
    await expect(reading).rejects.toThrow("closed");
    const calls = [
      () => put(store, "key", Buffer.from("x")),
      () => store.get("key"),
      () => store.stat("key"),
      () => store.digest("key"),
      () => store.copy("key", "to", { size: 1, digest: "" }),
      () => store.delete("key"),
      () => store.list("", { limit: 1 }),
      () => store.signPut("key", signing()),
      () => store.signGet("key", getting(Buffer.alloc(0))),
      () => store.dropUnfinished(0),
      () => store.ready(),
    ];
    for (const call of calls) await expect(call()).rejects.toThrow("closed");
  });
});
