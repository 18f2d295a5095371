/**
 * Conformance cases about what signed URLs promise to a client, whoever redeems them.
 * Run by `blob-store.ts`, against a real remote store as well.
 */

import { expect } from "vitest";
import type { BlobCase } from "./blob-case.ts";
import {
  bytesFor,
  contentOf,
  digestOf,
  expectSame,
  forGet,
  forPut,
  MIB,
  putBytes,
  SIZES,
} from "./blob-case.ts";
import { bodyOf, getRequest, putRequest, reachable, send } from "./blob-requests.ts";

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

/** How long a URL lives in the cases about expiry; some stores know whole seconds only. */
const SHORT_LIFE_MS = 2_000;
