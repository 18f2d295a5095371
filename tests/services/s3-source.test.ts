/** External `s3://` sources against a real server, and a flaky proxy in front of it: every byte, or a reason. */

import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { randomBytes } from "node:crypto";
import { connect, createServer, type Server } from "node:net";
import { s3Source } from "@docyard/adapters/fetch/s3";
import { isDocyardError } from "@docyard/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freshBucket, s3Client, type FreshBucket } from "./index.ts";

const source = s3Source();
let bucket: FreshBucket;
let client: S3Client;
const bytes = randomBytes(3 * 1024 * 1024 + 7);
const NAME = "recordings/größe & more?.mp4";

beforeAll(async () => {
  bucket = await freshBucket();
  client = s3Client(bucket);
  await client.send(
    new PutObjectCommand({
      Bucket: bucket.bucket,
      Key: bucket.prefix + NAME,
      Body: bytes,
      ContentType: "video/mp4",
    }),
  );
});
afterAll(async () => {
  await source.close();
  client.destroy();
  await bucket.remove();
});

const credentials = (over: object = {}): string =>
  JSON.stringify({
    accessKeyId: bucket.accessKeyId,
    secretAccessKey: bucket.secretAccessKey,
    region: bucket.region,
    endpoint: bucket.endpoint,
    ...over,
  });
const path = (key: string): string => `s3://${bucket.bucket}/${bucket.prefix}${key}`;

async function read(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of body) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

test("an object comes whole, with its size and type", async () => {
  const found = await source.open(path(NAME), credentials(), { sizeMax: 1e9 });
  expect(found).toMatchObject({ size: bytes.length, contentType: "video/mp4" });
  expect((await read(found.body)).equals(bytes)).toBe(true);
});

describe("refused for good, without a secret in the words", () => {
  test.each([
    ["a missing object", () => ({ at: path("nothing") }), /no such object/],
    ["a missing bucket", () => ({ at: "s3://no-such-bucket-here/x" }), /no such bucket|refused/],
    ["a wrong secret", () => ({ by: credentials({ secretAccessKey: "wrong" }) }), /credentials.*refused/],
    ["an unknown key id", () => ({ by: credentials({ accessKeyId: "nobody" }) }), /credentials.*refused/],
    ["no path at all", () => ({ at: "http://x/y" }), /not s3:/],
    ["unreadable credentials", () => ({ by: "{secret-text" }), /cannot be read/],
  ] as [string, () => { at?: string; by?: string }, RegExp][])("%s", async (_what, given, words) => {
    const { at: s3Path = path(NAME), by: secret = credentials() } = given();
    const error: unknown = await source.open(s3Path, secret, { sizeMax: 1e9 }).catch((e: unknown) => e);
    expect(isDocyardError(error, "source_failed")).toBe(true);
    const { message } = error as Error;
    expect(message).toMatch(words);
    for (const hidden of [bucket.secretAccessKey, "secret-text"]) expect(message).not.toContain(hidden);
  });
});

test("over the limit is too_large before a byte is read", async () => {
  await expect(source.open(path(NAME), credentials(), { sizeMax: 1024 })).rejects.toMatchObject({
    code: "too_large",
  });
});

test("a server that is not there may be tried again", async () => {
  const endpoint = "http://127.0.0.1:9";
  await expect(source.open(path(NAME), credentials({ endpoint }), { sizeMax: 1e9 })).rejects.toMatchObject({
    code: "upstream_failed",
  });
});

test("a connection that breaks off is taken up where it broke", async () => {
  const proxy = await cuttingProxy(new URL(bucket.endpoint), 700_000);
  try {
    const found = await source.open(path(NAME), credentials({ endpoint: proxy.url }), { sizeMax: 1e9 });
    expect((await read(found.body)).equals(bytes)).toBe(true);
    expect(proxy.cuts()).toBeGreaterThanOrEqual(3);
  } finally {
    await proxy.close();
  }
});

test("aborting ends the body with the signal's reason", async () => {
  const stop = new AbortController();
  const found = await source.open(path(NAME), credentials(), { sizeMax: 1e9, signal: stop.signal });
  const reading = (async () => {
    for await (const chunk of found.body) if (chunk.length > 0) stop.abort(new Error("stopped"));
  })();
  await expect(reading).rejects.toThrow("stopped");
});

test("a body that is given up before its first byte leaves no connection behind", async () => {
  const proxy = await cuttingProxy(new URL(bucket.endpoint), Number.POSITIVE_INFINITY);
  try {
    const found = await source.open(path(NAME), credentials({ endpoint: proxy.url }), { sizeMax: 1e9 });
    expect(await proxy.connections()).toBeGreaterThan(0);
    await found.body[Symbol.asyncIterator]().return?.();
    await expect.poll(() => proxy.connections()).toBe(0);
  } finally {
    await proxy.close();
  }
});

/** Forwards to the server, and cuts each connection after so many bytes of answer. */
async function cuttingProxy(
  to: URL,
  bytesEach: number,
): Promise<{ url: string; cuts(): number; connections(): Promise<number>; close(): Promise<void> }> {
  let cuts = 0;
  const server: Server = createServer((inbound) => {
    const outbound = connect(Number(to.port), to.hostname);
    let sent = 0;
    inbound.on("error", () => {}).on("close", () => outbound.destroy());
    outbound.on("error", () => {}).on("close", () => inbound.destroy());
    inbound.pipe(outbound);
    outbound.on("data", (chunk: Buffer) => {
      const rest = bytesEach - sent;
      sent += chunk.length;
      if (chunk.length < rest) {
        inbound.write(chunk);
      } else {
        cuts++;
        inbound.end(chunk.subarray(0, Math.max(0, rest)));
        outbound.destroy();
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    // The signature covers the host, so the proxy has to be addressed as itself; Ceph takes any name with path style.
    url: `http://127.0.0.1:${port}`,
    cuts: () => cuts,
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
      ),
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
