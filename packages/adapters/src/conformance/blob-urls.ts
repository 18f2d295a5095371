/**
 * Conformance cases about signed URLs: what they promise to a client whoever redeems them, and what a store that
 * redeems its own asks of its host. Requests go through `redeem`, so the same cases run against a real remote store.
 */

import type { BlobHost, BlobService } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { expect } from "vitest";
import type { BlobCase, BlobStoreTraits, OpenBlobs } from "./blob-case.ts";
import {
  bytesFor,
  codeOf,
  contentOf,
  digestOf,
  expectSame,
  forGet,
  forPut,
  MIB,
  permissiveHost,
  putBytes,
  SIZES,
} from "./blob-case.ts";

const reachable = ({ urls }: BlobStoreTraits): boolean => urls !== "none";
const serves = ({ urls }: BlobStoreTraits): boolean => urls === "serve";

/** How long a URL lives in the cases about expiry; some stores know whole seconds only. */
const SHORT_LIFE_MS = 2_000;

const send = async ({ redeem }: OpenBlobs, request: Request): Promise<Response> => {
  if (redeem === undefined)
    throw new TypeError("a store with reachable URLs needs `redeem` in what `open` gives");
  return redeem(request);
};

const service = ({ blobs }: OpenBlobs): BlobService => {
  if (blobs.serve === undefined) throw new TypeError("a store that serves itself needs `serve`");
  return blobs.serve;
};

type UploadBody = Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | string;

/** A PUT to a fresh signed URL. */
const putRequest = async (
  { blobs }: OpenBlobs,
  key: string,
  body: UploadBody | null,
  options: Parameters<typeof forPut>[0] & { readonly headers?: Record<string, string> } = {},
): Promise<Request> => {
  const { headers, ...grant } = options;
  const signed = await blobs.signPut(key, forPut(grant));
  return new Request(signed.url, {
    method: "PUT",
    body,
    headers: { ...signed.headers, ...headers },
    duplex: "half",
  });
};

const getRequest = async (
  { blobs }: OpenBlobs,
  key: string,
  bytes: Uint8Array,
  init: RequestInit = {},
  options: Parameters<typeof forGet>[1] = {},
): Promise<Request> => {
  const signed = await blobs.signGet(key, forGet(bytes, options));
  return new Request(signed.url, { ...init, headers: { ...signed.headers, ...(init.headers as object) } });
};

const bodyOf = async (response: Response): Promise<Uint8Array> =>
  new Uint8Array(await response.arrayBuffer());

/** A stream that hands out chunks and then, if told so, fails. */
const streamOf = (
  chunks: readonly Uint8Array<ArrayBuffer>[],
  failure?: Error,
): ReadableStream<Uint8Array<ArrayBuffer>> =>
  new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      if (failure === undefined) controller.close();
      else controller.error(failure);
    },
  });

export const URL_CASES: readonly BlobCase[] = [
  {
    name: "signing gives an absolute URL with its method and expiry, and touches nothing",
    async run({ blobs }) {
      const expiresAt = Date.now() + 600_000;
      const put = await blobs.signPut("a/blob", forPut({ expiresAt }));
      const get = await blobs.signGet("a/blob", forGet(bytesFor(1), { expiresAt }));
      expect(put).toMatchObject({ method: "PUT", expiresAt });
      expect(get).toMatchObject({ method: "GET", expiresAt });
      for (const { url } of [put, get]) expect(new URL(url).protocol).toMatch(/^https?:$/);
      return [];
    },
  },
  ...SIZES.map(roundTrips),
  {
    name: "a signed PUT may be repeated, and the last one counts",
    when: reachable,
    async run(open) {
      const signed = await open.blobs.signPut("blob", forPut());
      for (const seed of [1, 2, 3]) {
        const request = new Request(signed.url, {
          method: "PUT",
          body: bytesFor(50_000, seed),
          headers: { ...signed.headers },
        });
        expect((await send(open, request)).status).toBe(200);
      }
      expectSame(await contentOf(open.blobs, "blob"), bytesFor(50_000, 3));
      return ["blob"];
    },
  },
  {
    name: "what a signed PUT stored can be copied as stat says it is",
    when: reachable,
    async run(open) {
      const left: string[] = [];
      for (const size of [10, MIB + 1]) {
        const bytes = bytesFor(size);
        await send(open, await putRequest(open, "in/blob", bytes));
        const info = await open.blobs.stat("in/blob");
        expect(info?.size).toBe(size);
        const digest = info?.digest ?? (await open.blobs.digest("in/blob"))!.digest;
        expect(digest).toBe(digestOf(bytes));
        expect(await open.blobs.copy("in/blob", `out/${digest}`, { size, digest })).toBe(true);
        left.push(`out/${digest}`);
      }
      return ["in/blob", ...left];
    },
  },
  {
    name: "a URL for one method, key or store is none for another",
    when: reachable,
    async run(open) {
      const bytes = bytesFor(100);
      await putBytes(open.blobs, "blob", bytes);
      await putBytes(open.blobs, "secret", bytes);
      const put = await open.blobs.signPut("blob", forPut());
      const get = await open.blobs.signGet("blob", forGet(bytes));
      const attempts = [
        new Request(put.url),
        new Request(put.url, { method: "DELETE" }),
        new Request(get.url, { method: "PUT", body: "x" }),
        new Request(get.url, { method: "DELETE" }),
        new Request(get.url.replace("/blob?", "/secret?")),
        new Request(put.url.replace("/blob?", "/secret?"), { method: "PUT", body: "x" }),
        new Request(get.url.split("?")[0]!),
        new Request(
          get.url.replace(/[0-9a-f]{8}(?=&|$)/, (hex) => (hex === "00000000" ? "11111111" : "00000000")),
        ),
      ];
      for (const request of attempts) {
        const shown = `${request.method} ${request.url.split("?")[0]}`;
        expect([shown, (await send(open, request)).status]).toEqual([shown, 403]);
      }
      expectSame(await contentOf(open.blobs, "blob"), bytes);
      expectSame(await contentOf(open.blobs, "secret"), bytes);
      return ["blob", "secret"];
    },
  },
  {
    name: "after its expiry a URL is refused",
    when: reachable,
    async run(open) {
      const bytes = bytesFor(100);
      await putBytes(open.blobs, "blob", bytes);
      const expiresAt = Date.now() + SHORT_LIFE_MS;
      const put = await putRequest(open, "blob", bytesFor(50, 2), { expiresAt });
      const get = await getRequest(open, "blob", bytes, {}, { expiresAt });
      expect((await send(open, get.clone())).status).toBe(200);
      await (open.wait?.(SHORT_LIFE_MS + 1_000) ??
        new Promise((resolve) => {
          setTimeout(resolve, SHORT_LIFE_MS + 1_000);
        }));
      expect((await send(open, get)).status).toBe(403);
      expect((await send(open, put)).status).toBe(403);
      expectSame(await contentOf(open.blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "a download is an attachment under its own name, of its own type",
    when: reachable,
    async run(open) {
      const bytes = bytesFor(100);
      await putBytes(open.blobs, "blob", bytes);
      for (const filename of [
        "report.pdf",
        'Ä "quoted" 100%; \u65e5\u672c.pdf',
        "a'b*c(d).txt",
        "\u{1f600}",
      ]) {
        const got = await send(open, await getRequest(open, "blob", bytes, {}, { filename }));
        const disposition = got.headers.get("content-disposition") ?? "";
        expect(disposition).toMatch(/^attachment;/);
        const encoded = /filename\*=UTF-8''([^;]*)/i.exec(disposition)?.[1];
        expect(decodeURIComponent(encoded ?? "")).toBe(filename);
        expect(got.headers.get("content-type")).toBe("application/pdf");
        expectSame(await bodyOf(got), bytes);
      }
      return ["blob"];
    },
  },
  {
    name: "a single range is answered with 206 and exactly those bytes",
    when: reachable,
    async run(open) {
      const size = 2 * MIB + 10;
      const bytes = bytesFor(size);
      await putBytes(open.blobs, "blob", bytes);
      for (const [range, start, end] of [
        ["bytes=0-0", 0, 1],
        ["bytes=0-", 0, size],
        ["bytes=5-99", 5, 100],
        [`bytes=${MIB - 1}-${MIB}`, MIB - 1, MIB + 1],
        [`bytes=${size - 1}-`, size - 1, size],
        [`bytes=10-${size * 2}`, 10, size],
        ["bytes=-1", size - 1, size],
        ["bytes=-1048577", size - MIB - 1, size],
        [`bytes=-${size * 2}`, 0, size],
      ] as const) {
        const got = await send(open, await getRequest(open, "blob", bytes, { headers: { range } }));
        expect([range, got.status]).toEqual([range, 206]);
        expect(got.headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${size}`);
        expect(got.headers.get("content-length")).toBe(`${end - start}`);
        expectSame(await bodyOf(got), bytes.subarray(start, end));
      }
      return ["blob"];
    },
  },
  {
    name: "a range beyond the end is 416",
    when: reachable,
    async run(open) {
      const bytes = bytesFor(100);
      await putBytes(open.blobs, "blob", bytes);
      for (const range of ["bytes=100-", "bytes=100-200"]) {
        const got = await send(open, await getRequest(open, "blob", bytes, { headers: { range } }));
        expect([range, got.status]).toEqual([range, 416]);
      }
      return ["blob"];
    },
  },
  {
    name: "a client that has the bytes is told so, and one that has others gets them",
    when: reachable,
    async run(open) {
      const bytes = bytesFor(1_000);
      await putBytes(open.blobs, "blob", bytes);
      const first = await send(open, await getRequest(open, "blob", bytes));
      const etag = first.headers.get("etag")!;
      await first.arrayBuffer();
      for (const [headers, status] of [
        [{ "if-none-match": etag }, 304],
        [{ "if-none-match": '"other"' }, 200],
        [{ "if-match": etag }, 200],
        [{ "if-match": '"other"' }, 412],
      ] as [Record<string, string>, number][]) {
        const got = await send(open, await getRequest(open, "blob", bytes, { headers }));
        expect([headers, got.status]).toEqual([headers, status]);
        if (status === 200) expectSame(await bodyOf(got), bytes);
        else await got.arrayBuffer();
      }
      return ["blob"];
    },
  },
  {
    name: "a download of what is gone is 404",
    when: reachable,
    async run(open) {
      const got = await send(open, await getRequest(open, "none", bytesFor(10)));
      expect(got.status).toBe(404);
      await got.arrayBuffer();
      return [];
    },
  },

  // From here on: stores that redeem their own URLs, and their host.
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
        headers: { "content-length": "101" },
      });
      expect(await codeOf(service(open).fetch(put, permissiveHost()))).toBe("too_large");
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

function roundTrips(size: number): BlobCase {
  return {
    name: `a signed PUT stores ${size} bytes and a signed GET hands them out`,
    when: reachable,
    async run(open) {
      const bytes = bytesFor(size);
      const put = await send(open, await putRequest(open, "in/blob", bytes));
      expect(put.status).toBe(200);
      expect(put.headers.get("etag")).not.toBeNull();
      expectSame(await contentOf(open.blobs, "in/blob"), bytes);
      const got = await send(open, await getRequest(open, "in/blob", bytes));
      expect(got.status).toBe(200);
      expect(got.headers.get("content-length")).toBe(`${size}`);
      expectSame(await bodyOf(got), bytes);
      return ["in/blob"];
    },
  };
}

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
