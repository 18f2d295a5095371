/**
 * Conformance cases about stores that redeem their own signed URLs: what they ask of their host, refuse and withhold.
 * Run by `blob-store.ts`.
 */

import type { BlobHost } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { expect } from "vitest";
import type { BlobCase } from "./blob-case.ts";
import {
  bytesFor,
  codeOf,
  contentOf,
  digestOf,
  expectSame,
  forGet,
  forPut,
  MIB,
  putBytes,
  permissiveHost,
} from "./blob-case.ts";
import { bodyOf, getRequest, putRequest, send, serves, service, streamOf } from "./blob-requests.ts";

export const SERVICE_CASES: readonly BlobCase[] = [
  {
    name: "all its URLs lie below the public URL and its path",
    when: serves,
    async run(open) {
      expect(service(open).path).toBe("/v1/blobs/");
      const put = await open.blobs.signPut("a/b", forPut());
      const get = await open.blobs.signGet("a/b", forGet(bytesFor(1)));
      for (const { url } of [put, get]) expect(new URL(url).pathname.endsWith("/v1/blobs/a/b")).toBe(true);
      return [];
    },
  },
  {
    name: "grants say what the URL was signed for, and who may use it is asked each time",
    when: serves,
    async run(open) {
      const bytes = bytesFor(100);
      const host = permissiveHost();
      await service(open).fetch(await putRequest(open, "blob", bytes, { artifactId: "art_1" }), host);
      const put = { method: "PUT", key: "blob", artifactId: "art_1", principalId: null };
      // Before any byte moves, and again before the bytes are published.
      expect(host.admitted).toEqual([put, put]);
      host.admitted.length = 0;
      const as = { artifactId: "art_2", principalId: "mc_7" };
      await bodyOf(await service(open).fetch(await getRequest(open, "blob", bytes, {}, as), host));
      await service(open).fetch(await getRequest(open, "blob", bytes, { method: "HEAD" }, as), host);
      const get = { key: "blob", ...as };
      expect(host.admitted).toEqual([
        { method: "GET", ...get },
        { method: "HEAD", ...get },
      ]);
      expect(host.corrupted).toEqual([]);
      return ["blob"];
    },
  },
  {
    name: "a host that refuses is obeyed before any byte moves",
    when: serves,
    async run(open) {
      const bytes = bytesFor(100);
      await putBytes(open.blobs, "blob", bytes);
      const refusal = new DocyardError("resource_exhausted", "later", { retryAfterMs: 5 });
      const host = permissiveHost(() => {
        throw refusal;
      });
      let isRead = false;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
        {
          pull(controller) {
            isRead = true;
            controller.enqueue(bytesFor(10, 2));
            controller.close();
          },
        },
        { highWaterMark: 0 },
      );
      const put = await putRequest(open, "blob", body);
      await expect(service(open).fetch(put, host)).rejects.toBe(refusal);
      expect(isRead).toBe(false);
      await expect(service(open).fetch(await getRequest(open, "blob", bytes), host)).rejects.toBe(refusal);
      // Also when nothing is there: the host's word comes before 404.
      await expect(service(open).fetch(await getRequest(open, "none", bytes), host)).rejects.toBe(refusal);
      expectSame(await contentOf(open.blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "what a caller's stream hands out stays the caller's",
    when: serves,
    async run(open) {
      const bytes = bytesFor(300_000);
      const parts = [0, 100_000, 200_000].map((at) => bytes.slice(at, at + 100_000));
      const body = new ReadableStream({
        start(controller) {
          for (const part of parts) controller.enqueue(part);
          controller.close();
        },
      });
      const put = await putRequest(open, "blob", body);
      expect((await service(open).fetch(put, permissiveHost())).status).toBe(200);
      expectSame(Buffer.concat(parts), bytes);
      expectSame(await contentOf(open.blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "the host is not asked about a URL whose signature does not hold",
    when: serves,
    async run(open) {
      const host = permissiveHost();
      const request = await getRequest(open, "blob", bytesFor(1));
      const forged = new Request(`${request.url.slice(0, -1)}${request.url.endsWith("0") ? "1" : "0"}`);
      expect(await codeOf(service(open).fetch(forged, host))).toBe("permission_denied");
      expect(host.admitted).toEqual([]);
      return [];
    },
  },
  {
    name: "bytes that came while the upload was completed are not published",
    when: serves,
    async run(open) {
      await putBytes(open.blobs, "blob", bytesFor(10));
      const refusal = new DocyardError("failed_precondition", "already completed");
      const host = permissiveHost((_, asked) => {
        if (asked === 2) throw refusal;
      });
      for (const size of [100, MIB + 1]) {
        host.admitted.length = 0;
        const put = await putRequest(open, "blob", bytesFor(size, 2));
        await expect(service(open).fetch(put, host)).rejects.toBe(refusal);
      }
      expectSame(await contentOf(open.blobs, "blob"), bytesFor(10));
      return ["blob"];
    },
  },
  {
    name: "a PUT announced as too large is refused unread",
    when: serves,
    async run(open) {
      let isRead = false;
      // Over the limit, and beyond what a number tells exactly.
      for (const announced of ["101", "9".repeat(19)]) {
        const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
          {
            pull(controller) {
              isRead = true;
              controller.enqueue(bytesFor(101));
              controller.close();
            },
          },
          { highWaterMark: 0 },
        );
        const put = await putRequest(open, "blob", body, {
          sizeMax: 100,
          headers: { "content-length": announced },
        });
        expect(await codeOf(service(open).fetch(put, permissiveHost()))).toBe("too_large");
      }
      expect(isRead).toBe(false);
      return [];
    },
  },
  {
    name: "a PUT that turns out too large is cut off, and nothing has changed",
    when: serves,
    async run(open) {
      await putBytes(open.blobs, "blob", bytesFor(10));
      for (const size of [100, 2 * MIB]) {
        const body = streamOf([bytesFor(size), bytesFor(1)]);
        const put = await putRequest(open, "blob", body, { sizeMax: size });
        expect(await codeOf(service(open).fetch(put, permissiveHost()))).toBe("too_large");
      }
      const exact = await putRequest(open, "exact", streamOf([bytesFor(100)]), { sizeMax: 100 });
      expect((await service(open).fetch(exact, permissiveHost())).status).toBe(200);
      expectSame(await contentOf(open.blobs, "blob"), bytesFor(10));
      return ["blob", "exact"];
    },
  },
  {
    name: "a PUT whose body breaks, or is not as long as announced, leaves nothing",
    when: serves,
    async run(open) {
      const broken = await putRequest(
        open,
        "blob",
        streamOf([bytesFor(MIB + 9)], new Error("connection lost")),
      );
      await expect(service(open).fetch(broken, permissiveHost())).rejects.toThrow("connection lost");
      for (const announced of ["99", "101"]) {
        const put = await putRequest(open, "blob", streamOf([bytesFor(100)]), {
          headers: { "content-length": announced },
        });
        expect(await codeOf(service(open).fetch(put, permissiveHost()))).toBe("invalid_argument");
      }
      expect(await open.blobs.stat("blob")).toBeNull();
      return [];
    },
  },
  {
    name: "bytes are stored as sent, whatever Content-Encoding says",
    when: serves,
    async run(open) {
      const headers = { "content-encoding": "gzip", "content-type": "text/plain" };
      const put = await putRequest(open, "blob", bytesFor(100), { headers });
      expect((await send(open, put)).status).toBe(200);
      const got = await send(open, await getRequest(open, "blob", bytesFor(100)));
      expect(got.headers.get("content-encoding")).toBeNull();
      expectSame(await bodyOf(got), bytesFor(100));
      return ["blob"];
    },
  },
  {
    name: "a part of a file is refused, since it would pass for the whole",
    when: serves,
    async run(open) {
      const headers = { "content-range": "bytes 0-99/200" };
      const put = await putRequest(open, "blob", bytesFor(100), { headers });
      expect(await codeOf(service(open).fetch(put, permissiveHost()))).toBe("invalid_argument");
      expect(await open.blobs.stat("blob")).toBeNull();
      return [];
    },
  },
  {
    name: "an Authorization header beside the signature is ignored",
    when: serves,
    async run(open) {
      const headers = { authorization: "Bearer of.no.use" };
      expect((await send(open, await putRequest(open, "blob", bytesFor(9), { headers }))).status).toBe(200);
      const got = await send(open, await getRequest(open, "blob", bytesFor(9), { headers }));
      expectSame(await bodyOf(got), bytesFor(9));
      return ["blob"];
    },
  },
  {
    name: "HEAD answers as GET does, without the bytes",
    when: serves,
    async run(open) {
      const bytes = bytesFor(MIB + 1);
      await putBytes(open.blobs, "blob", bytes);
      const get = await send(open, await getRequest(open, "blob", bytes));
      const head = await send(open, await getRequest(open, "blob", bytes, { method: "HEAD" }));
      expect(head.status).toBe(200);
      expect(Object.fromEntries(head.headers)).toEqual(Object.fromEntries(get.headers));
      expect((await bodyOf(head)).byteLength).toBe(0);
      await get.arrayBuffer();
      return ["blob"];
    },
  },
  {
    name: "downloads carry the headers that make them harmless in a browser",
    when: serves,
    async run(open) {
      const bytes = bytesFor(10);
      await putBytes(open.blobs, "blob", bytes);
      const hostile = { contentType: "text/html\r\nX-Evil: 1", filename: "x.html" };
      const got = await send(open, await getRequest(open, "blob", bytes, {}, hostile));
      expect(Object.fromEntries(got.headers)).toMatchObject({
        "accept-ranges": "bytes",
        "access-control-allow-origin": "*",
        "cache-control": "private, no-store",
        "content-security-policy": "sandbox; default-src 'none'",
        "content-type": "application/octet-stream",
        etag: `"sha256:${digestOf(bytes)}"`,
        "x-content-type-options": "nosniff",
      });
      expect(got.headers.get("x-evil")).toBeNull();
      await got.arrayBuffer();
      return ["blob"];
    },
  },
  {
    name: "a browser's preflight is answered without a signature",
    when: serves,
    async run(open) {
      const host = permissiveHost();
      const { url } = await open.blobs.signPut("blob", forPut());
      const request = new Request(url.split("?")[0]!, {
        method: "OPTIONS",
        headers: { origin: "https://app.example", "access-control-request-method": "PUT" },
      });
      const answer = await service(open).fetch(request, host);
      expect(answer.status).toBe(204);
      expect(answer.headers.get("access-control-allow-origin")).toBe("*");
      expect(answer.headers.get("access-control-allow-methods")).toContain("PUT");
      expect(host.admitted).toEqual([]);
      return [];
    },
  },
  ...[
    { name: "other bytes of the same size", size: 100, other: bytesFor(100, 2) },
    { name: "other bytes of another size", size: 100, other: bytesFor(99) },
    { name: "many other bytes", size: 2 * MIB, other: bytesFor(2 * MIB, 2) },
    { name: "nothing instead of something", size: 5, other: bytesFor(0) },
  ].map(withheld),
  {
    name: "a host that cannot note the damage changes nothing about the answer",
    when: serves,
    async run(open) {
      await putBytes(open.blobs, "blob", bytesFor(100, 2));
      const host: BlobHost = {
        admit: async () => {},
        corrupt: async () => {
          throw new Error("the log is full");
        },
      };
      const request = await getRequest(open, "blob", bytesFor(100));
      expect(await codeOf(service(open).fetch(request, host))).toBe("data_loss");
      return ["blob"];
    },
  },
  {
    name: "a download that nobody reads to its end can be cancelled",
    when: serves,
    async run(open) {
      const bytes = bytesFor(4 * MIB);
      await putBytes(open.blobs, "blob", bytes);
      for (let round = 0; round < 20; round++) {
        const got = await service(open).fetch(await getRequest(open, "blob", bytes), permissiveHost());
        const reader = got.body!.getReader();
        if (round % 2 === 0) await reader.read();
        await reader.cancel();
      }
      return ["blob"];
    },
  },
];

function withheld({
  name,
  size,
  other,
}: {
  readonly name: string;
  readonly size: number;
  readonly other: Uint8Array;
}): BlobCase {
  return {
    name: `${name} than the URL was signed for are withheld, and the host is told`,
    when: serves,
    async run(open) {
      await putBytes(open.blobs, "blob", other);
      for (const headers of [{}, { range: "bytes=0-3" }] as Record<string, string>[]) {
        const host = permissiveHost();
        const request = await getRequest(open, "blob", bytesFor(size), { headers });
        expect(await codeOf(service(open).fetch(request, host))).toBe("data_loss");
        expect(host.corrupted).toHaveLength(1);
        expect(host.corrupted[0]).toMatchObject({
          grant: { method: "GET", key: "blob", artifactId: "art_case" },
        });
        expect(host.corrupted[0]!.reason).not.toBe("");
      }
      return ["blob"];
    },
  };
}
