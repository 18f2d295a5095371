/** The service on `node:http` objects, over real sockets: the same answers as `fetch`, and what only sockets can show. */

import { once } from "node:events";
import { open, rm } from "node:fs/promises";
import type { IncomingMessage, Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { connect } from "node:net";
import { join } from "node:path";
import type { DiskBlobsOptions } from "@docyard/adapters/blob/disk";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import type { NotingHost } from "@docyard/adapters/conformance/blob-store";
import { permissiveHost, redeemBy } from "@docyard/adapters/conformance/blob-store";
import type { BlobService, BlobStore } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { bytesOfSize, chunksOf, digestOf, sha256 } from "./blob-bytes.ts";
import { filesBelow, openDisk, SECRET, strayFilesAndKeys } from "./blob-harness.ts";

const MIB = 1024 * 1024;
const STATUS: Readonly<Record<string, number>> = {
  permission_denied: 403,
  not_found: 404,
  too_large: 409,
  invalid_argument: 400,
  failed_precondition: 409,
};

type ServingBlobs = BlobStore & { readonly serve: Required<BlobService> };

interface Served {
  readonly blobs: ServingBlobs;
  readonly root: string;
  readonly server: Server;
  readonly port: number;
  readonly host: NotingHost;
  /** How each call of `serve.node` ended: `resolved`, or the code it rejected with. */
  readonly outcomes: string[];
}

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function serve(
  blobsAt: (baseUrl: () => string) => Promise<ServingBlobs>,
  host: NotingHost = permissiveHost(),
): Promise<Omit<Served, "root">> {
  let port = 0;
  const blobs = await blobsAt(() => `http://127.0.0.1:${port}/files`);
  const outcomes: string[] = [];
  const server = createServer((incoming, outgoing) => {
    blobs.serve.node({ incoming, outgoing }, host).then(
      () => outcomes.push("resolved"),
      (error: unknown) => {
        outcomes.push(isDocyardError(error) ? error.code : String(error));
        outgoing.statusCode = isDocyardError(error) ? (STATUS[error.code] ?? 500) : 500;
        outgoing.end((error as Error).message);
      },
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  port = (server.address() as AddressInfo).port;
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  });
  return { blobs, server, port, host, outcomes };
}

async function serveDisk(options: Partial<DiskBlobsOptions> = {}, host?: NotingHost): Promise<Served> {
  let root = "";
  const served = await serve(async (baseUrl) => {
    const disk = await openDisk({ ...options, baseUrl });
    closers.push(disk.close);
    root = disk.root;
    return disk.blobs;
  }, host);
  return { ...served, root };
}

const facts = { artifactId: "art_1", principalId: "mc_1", filename: "x.bin", contentType: "text/plain" };
const putUrl = async (blobs: ServingBlobs, key: string, sizeMax = 64 * MIB): Promise<string> =>
  (await blobs.signPut(key, { expiresAt: Date.now() + 60_000, sizeMax, artifactId: "art_1" })).url;
const getUrl = async (blobs: ServingBlobs, key: string, bytes: Uint8Array): Promise<string> =>
  (
    await blobs.signGet(key, {
      expiresAt: Date.now() + 60_000,
      size: bytes.byteLength,
      digest: digestOf(bytes),
      ...facts,
    })
  ).url;
const store = (blobs: ServingBlobs, key: string, bytes: Uint8Array) =>
  blobs.put(key, chunksOf(bytes), { sizeMax: bytes.byteLength });

/** Until something is so; fails by the test's own time limit. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) {
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}

/** A socket of one's own, to do to a server what no well-behaved client does. */
async function dial(port: number, head: string): Promise<Socket & { seen: () => string }> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let seen = "";
  socket.on("data", (chunk) => {
    seen += chunk.toString("latin1");
  });
  await once(socket, "connect");
  socket.write(head);
  return Object.assign(socket, { seen: () => seen });
}

const head = (method: string, url: string, headers: string): string =>
  `${method} ${url.slice(url.indexOf("/", 8))} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;

describe("node:http and fetch answer alike", () => {
  test.for(["disk", "memory"] as const)("%s: every status, header and body", async (kind) => {
    const served =
      kind === "disk"
        ? await serveDisk()
        : await serve(async (baseUrl) => memoryBlobs({ baseUrl, secret: SECRET }));
    const { blobs, host } = served;
    const viaFetch = redeemBy(blobs.serve, host);
    const bytes = bytesOfSize(2 * MIB + 9);
    await store(blobs, "blob", bytes);
    await store(blobs, "none", bytesOfSize(0));
    const url = await getUrl(blobs, "blob", bytes);
    const etag = `"sha256:${digestOf(bytes)}"`;
    const requests: [string, RequestInit][] = [
      [url, {}],
      [url, { method: "HEAD" }],
      [url, { headers: { range: "bytes=5-99" } }],
      [url, { headers: { range: `bytes=-${MIB + 5}` } }],
      [url, { headers: { range: "bytes=99999999-" } }],
      [url, { headers: { range: "bytes=0-1,5-6" } }],
      [url, { headers: { "if-none-match": etag } }],
      [url, { headers: { "if-match": '"x"' } }],
      [url, { headers: { authorization: "Bearer x" } }],
      [url, { method: "OPTIONS" }],
      [url, { method: "DELETE" }],
      [`${url}0`, {}],
      [await getUrl(blobs, "none", bytesOfSize(0)), {}],
      [await getUrl(blobs, "missing", bytes), {}],
      [await putUrl(blobs, "new"), { method: "PUT", body: bytesOfSize(70_000) }],
      [await putUrl(blobs, "new"), { method: "PUT" }],
      [await putUrl(blobs, "new", 10), { method: "PUT", body: bytesOfSize(11) }],
    ];
    /** What a connection adds. */
    const ofTheConnection = ["connection", "keep-alive", "date", "transfer-encoding"];
    const shown = async (response: Response) => ({
      status: response.status,
      headers: Object.fromEntries(
        [...response.headers].filter(([name]) => !ofTheConnection.includes(name) && response.status < 400),
      ),
      body: sha256(new Uint8Array(await response.arrayBuffer())),
    });
    for (const [target, init] of requests) {
      const [node, web] = [await fetch(target, init), await viaFetch(new Request(target, init))];
      expect(await shown(node)).toEqual(await shown(web));
    }
    expect(host.corrupted).toEqual([]);
  });

  test("bodies of many sizes go there and back, over connections that are kept", async () => {
    const { blobs, root, host } = await serveDisk();
    for (const size of [0, 1, 65_535, 65_536, MIB - 1, MIB, MIB + 1, 7 * MIB + 3]) {
      const bytes = bytesOfSize(size);
      const put = await fetch(await putUrl(blobs, `blob-${size}`), { method: "PUT", body: bytes });
      expect([put.status, put.headers.get("etag")]).toEqual([200, `"sha256:${digestOf(bytes)}"`]);
      const got = await fetch(await getUrl(blobs, `blob-${size}`, bytes));
      expect([got.status, sha256(new Uint8Array(await got.arrayBuffer()))]).toEqual([200, digestOf(bytes)]);
    }
    expect(host.corrupted).toEqual([]);
    expect((await strayFilesAndKeys(root)).length).toBe(8);
  });

  test("a body is the same however it arrives, with its head or byte by byte, and refused alike", async () => {
    const { blobs, root, port } = await serveDisk();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.nat(40), fc.nat(200_000)),
        fc.boolean(),
        fc.boolean(),
        fc.array(fc.nat(), { maxLength: 6 }),
        async (size, isChunked, isTooLarge, seams) => {
          const key = `a/${count++}`;
          const bytes = bytesOfSize(size);
          const url = await putUrl(blobs, key, isTooLarge ? Math.max(0, size - 1) : size);
          const framed =
            isChunked && size > 0
              ? [`${size.toString(16)}\r\n`, bytes, "\r\n0\r\n\r\n"]
              : [bytes, isChunked ? "0\r\n\r\n" : ""];
          const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${size}`;
          const parts = [head("PUT", url, `${framing}\r\nConnection: close\r\n`), ...framed];
          const all = Buffer.concat(parts.map((part) => Buffer.from(part)));
          const cuts = [0, ...seams.map((seam) => seam % all.length).sort((a, b) => a - b), all.length];
          const socket = await dial(port, "");
          socket.setNoDelay();
          const closed = once(socket, "close");
          for (const [i, cut] of cuts.slice(1).entries()) {
            await new Promise<void>((resolve) => {
              socket.write(all.subarray(cuts[i], cut), () => resolve());
            });
            await new Promise(setImmediate);
          }
          await closed;
          const isRefused = isTooLarge && size > 0;
          expect(socket.seen()).toMatch(isRefused ? /^HTTP\/1\.1 409 / : /^HTTP\/1\.1 200 /);
          expect(await blobs.stat(key)).toEqual(isRefused ? null : { size, digest: digestOf(bytes) });
        },
      ),
      { numRuns: 80 },
    );
    expect(await filesBelow(join(root, ".tmp"))).toEqual([]);
  });

  test("a chunked body needs no Content-Length", async () => {
    const { blobs } = await serveDisk();
    const bytes = bytesOfSize(MIB + 77);
    const body = ReadableStream.from(chunksOf(bytes, 10_000));
    const put = await fetch(await putUrl(blobs, "blob"), { method: "PUT", body, duplex: "half" });
    expect(put.status).toBe(200);
    expect(await blobs.digest("blob")).toEqual({ size: bytes.byteLength, digest: digestOf(bytes) });
  });
});

describe("the memory of an upload", () => {
  /** Uploads with every chunk noted that the store is given to read. */
  async function chunksOfUpload(look: (incoming: IncomingMessage) => object): Promise<readonly Uint8Array[]> {
    const { blobs, server } = await serveDisk();
    const chunks: Uint8Array[] = [];
    const [listener] = server.listeners("request") as ((...pair: unknown[]) => void)[];
    server.removeAllListeners("request").on("request", (incoming, outgoing) => {
      const iterator = incoming.iterator.bind(incoming);
      incoming.iterator = (options) => {
        const source = iterator(options);
        const next = source.next.bind(source);
        source.next = async () => {
          const read = await next();
          if (read.done !== true) chunks.push(read.value as Uint8Array);
          return read;
        };
        return source;
      };
      listener!(look(incoming), outgoing);
    });
    const bytes = bytesOfSize(5 * MIB + 3);
    const put = await fetch(await putUrl(blobs, "blob"), { method: "PUT", body: bytes });
    expect(put.status).toBe(200);
    expect(await blobs.digest("blob")).toEqual({ size: bytes.byteLength, digest: digestOf(bytes) });
    return chunks;
  }

  test("goes as it is written, not when it is collected", async () => {
    const chunks = await chunksOfUpload((incoming) => incoming);
    expect(chunks.length).toBeGreaterThan(10);
    expect(chunks.filter(({ byteLength }) => byteLength > 0)).toEqual([]);
  });

  test("stays where something that only looks like Node's request hands it out", async () => {
    const chunks = await chunksOfUpload(
      (incoming) =>
        new Proxy(incoming, {
          getPrototypeOf: () => Object.prototype,
          get(target, name) {
            const value: unknown = Reflect.get(target, name);
            return typeof value === "function" ? (value.bind(target) as unknown) : value;
          },
        }),
    );
    expect(chunks.length).toBeGreaterThan(10);
    expect(chunks.filter(({ byteLength }) => byteLength === 0)).toEqual([]);
  });
});

describe("refusals reach the client", () => {
  test("announced too large: answered before the body is read", async () => {
    const { blobs, port, root } = await serveDisk();
    const url = await putUrl(blobs, "blob", 100);
    const socket = await dial(port, head("PUT", url, "Content-Length: 5000000000\r\n"));
    await until(() => socket.seen().includes("File size exceeds the limit of 100 bytes"));
    expect(socket.seen()).toMatch(/^HTTP\/1\.1 409 /);
    expect(socket.seen()).toMatch(/^connection: close$/im);
    socket.destroy();
    expect(await filesBelow(root)).toEqual([]);
  });

  test("a connection goes on where the body was read to its end, and ends in words where it may not be", async () => {
    const { blobs, port } = await serveDisk();
    const url = await putUrl(blobs, "blob", MIB);
    const kept = await dial(port, head("PUT", `${url}x`, "Content-Length: 5\r\n"));
    await until(() => kept.seen().includes("HTTP/1.1 403 "));
    expect(kept.seen()).not.toMatch(/^connection: close$/im);
    kept.write(`hello${head("PUT", `${url}x`, "Content-Length: 0\r\nConnection: close\r\n")}`);
    await until(() => kept.destroyed);
    expect(kept.seen().match(/HTTP\/1\.1 403 /g)).toHaveLength(2);

    const ended = await dial(port, head("PUT", `${url}x`, "Transfer-Encoding: chunked\r\n"));
    await until(() => ended.seen().includes("HTTP/1.1 403 "));
    expect(ended.seen()).toMatch(/^connection: close$/im);
    ended.write("5\r\nhello\r\n0\r\n\r\n");
    await until(() => ended.destroyed);
  });

  test("a client that sends everything before it reads still gets the answer", async () => {
    const { blobs, port } = await serveDisk();
    for (const framing of [`Content-Length: ${8 * MIB}\r\n`, "Transfer-Encoding: chunked\r\n"]) {
      const socket = await dial(port, head("PUT", await putUrl(blobs, "blob", MIB), framing));
      socket.pause();
      const body = bytesOfSize(8 * MIB);
      if (framing.startsWith("Transfer")) socket.write(`${body.byteLength.toString(16)}\r\n`);
      await new Promise((resolve) => {
        socket.write(body, resolve);
      });
      if (framing.startsWith("Transfer")) socket.write("\r\n0\r\n\r\n");
      socket.resume();
      await until(() => socket.seen().includes("File size exceeds"));
      expect(socket.seen()).toMatch(/^HTTP\/1\.1 409 /);
      socket.destroy();
    }
    expect(await blobs.stat("blob")).toBeNull();
  });

  test("a client that never stops sending is cut off", async () => {
    const { blobs, port } = await serveDisk();
    const url = await putUrl(blobs, "blob", MIB);
    const socket = await dial(port, head("PUT", url, "Content-Length: 500000000000\r\n"));
    const body = bytesOfSize(MIB);
    const closed = new Promise((resolve) => {
      socket.once("close", resolve);
    });
    const flood = (): void => {
      if (!socket.destroyed) socket.write(body, flood);
    };
    flood();
    await closed;
    expect(socket.seen()).toMatch(/^HTTP\/1\.1 409 /);
  });

  test("a browser's script may read why: refusals carry the CORS header", async () => {
    const { blobs } = await serveDisk();
    const refused = await fetch(`${await putUrl(blobs, "blob")}x`, { method: "PUT", body: "x" });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([403, "*"]);
  });

  test("a host that refuses at the end of the body is heard", async () => {
    const host = permissiveHost((_, asked) => {
      if (asked === 2) throw new DocyardError("failed_precondition", "already completed");
    });
    const { blobs, root } = await serveDisk({}, host);
    const put = await fetch(await putUrl(blobs, "blob"), { method: "PUT", body: bytesOfSize(2 * MIB) });
    expect([put.status, await put.text()]).toEqual([409, "already completed"]);
    expect(await filesBelow(root)).toEqual([]);
  });
});

describe("damage", () => {
  async function hurt(root: string, at: number): Promise<void> {
    const handle = await open(join(root, "blob"), "r+");
    await handle.write(Buffer.from([0xff, 0, 0xff, 0]), 0, 4, at);
    await handle.close();
  }

  test("in the first MiB: 500, and not a byte of it", async () => {
    const { blobs, root, host, outcomes } = await serveDisk();
    const bytes = bytesOfSize(3 * MIB);
    await store(blobs, "blob", bytes);
    await hurt(root, 100);
    const got = await fetch(await getUrl(blobs, "blob", bytes));
    expect([got.status, await got.text()]).toEqual([
      500,
      "The stored bytes are damaged and were not handed out",
    ]);
    expect(host.corrupted).toHaveLength(1);
    expect(outcomes).toEqual(["data_loss"]);
  });

  test("later: the connection is cut, and no client can take it for complete", async () => {
    const { blobs, root, host, outcomes } = await serveDisk();
    const bytes = bytesOfSize(5 * MIB);
    await store(blobs, "blob", bytes);
    await hurt(root, 4 * MIB + 5);
    const got = await fetch(await getUrl(blobs, "blob", bytes));
    expect(got.status).toBe(200);
    await expect(got.arrayBuffer()).rejects.toThrow("terminated");
    expect(host.corrupted).toHaveLength(1);
    await until(() => outcomes.length === 1);
    expect(outcomes).toEqual(["resolved"]);
  });
});

describe("clients that vanish or stall", () => {
  test("an upload that ends early leaves nothing, and its call resolves", async () => {
    const { blobs, port, root, outcomes } = await serveDisk();
    const url = await putUrl(blobs, "blob");
    for (const size of [0, 1, 70_000, 3 * MIB]) {
      const socket = await dial(port, head("PUT", url, "Content-Length: 4000000\r\n"));
      await new Promise((resolve) => {
        socket.write(bytesOfSize(size), resolve);
      });
      socket.destroy();
    }
    await until(() => outcomes.length === 4);
    expect(outcomes).toEqual(["resolved", "resolved", "resolved", "resolved"]);
    expect(await filesBelow(root)).toEqual([]);
  });

  test("an upload that is only half closed is refused as too short", async () => {
    const { blobs, port, root, outcomes } = await serveDisk();
    const socket = await dial(port, head("PUT", await putUrl(blobs, "blob"), "Content-Length: 100\r\n"));
    socket.end("only this");
    await until(() => outcomes.length === 1);
    expect(["resolved", "invalid_argument"]).toContain(outcomes[0]);
    expect(await filesBelow(root)).toEqual([]);
  });

  test("an upload without a byte for the idle time is given up", async () => {
    const { blobs, port, root, outcomes } = await serveDisk({ idleTimeoutMs: 50 });
    const socket = await dial(port, head("PUT", await putUrl(blobs, "blob"), "Content-Length: 100\r\n"));
    socket.write("a few bytes");
    await until(() => socket.seen().includes("No bytes arrived"));
    expect(outcomes).toEqual(["invalid_argument"]);
    expect(await filesBelow(root)).toEqual([]);
    await once(socket, "close");
  });

  test("a download that nobody takes is given up, and its file closed", async () => {
    const { blobs, port, outcomes } = await serveDisk({ idleTimeoutMs: 50 });
    const bytes = bytesOfSize(32 * MIB);
    await store(blobs, "blob", bytes);
    const socket = await dial(port, head("GET", await getUrl(blobs, "blob", bytes), ""));
    socket.pause();
    await until(() => outcomes.length === 1);
    expect(outcomes).toEqual(["resolved"]);
    socket.destroy();
  });

  test("closing the store ends downloads under way", async () => {
    const { blobs, port, outcomes } = await serveDisk();
    const bytes = bytesOfSize(32 * MIB);
    await store(blobs, "blob", bytes);
    const socket = await dial(port, head("GET", await getUrl(blobs, "blob", bytes), ""));
    socket.pause();
    await until(() => socket.bytesRead > 0);
    await blobs.close();
    await until(() => outcomes.length === 1);
    expect(outcomes).toEqual(["resolved"]);
    socket.destroy();
  });

  test("a blob that is deleted while it is downloaded arrives whole", async () => {
    const { blobs, root } = await serveDisk();
    const bytes = bytesOfSize(24 * MIB);
    await store(blobs, "blob", bytes);
    const got = await fetch(await getUrl(blobs, "blob", bytes));
    await blobs.delete("blob");
    await rm(join(root, "blob"), { force: true });
    expect(sha256(new Uint8Array(await got.arrayBuffer()))).toBe(digestOf(bytes));
  });
});
