/** The HTTP of blobs as pure functions: ranges, conditions and headers, against models and tables of corners. */

import { validateHeaderValue } from "node:http";
import {
  contentDisposition,
  etagOf,
  parseRange,
  planDownload,
  safeContentType,
} from "../../packages/adapters/src/blob/http.ts";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const digest = "cd".repeat(32);
const etag = etagOf(digest);
const blob = { filename: "a.pdf", contentType: "application/pdf", size: 100, digest };
const plan = (headers: Record<string, string>, method: "GET" | "HEAD" = "GET", size = 100) =>
  planDownload(method, (name) => headers[name], { ...blob, size });

describe("ranges", () => {
  test("first-last agrees with the plain reading of RFC 9110", () => {
    const number = fc.oneof(fc.nat(30), fc.nat(10_000), fc.constant(Number.MAX_SAFE_INTEGER));
    fc.assert(
      fc.property(number, fc.option(number), fc.nat(40), (first, last, size) => {
        const expected =
          last !== null && last < first
            ? "whole"
            : first >= size
              ? "unsatisfiable"
              : { start: first, end: Math.min(size, (last ?? size - 1) + 1) };
        expect(parseRange(`bytes=${first}-${last ?? ""}`, size)).toEqual(expected);
      }),
    );
  });

  test("suffixes agree with slice(-n)", () => {
    fc.assert(
      fc.property(fc.nat(60), fc.nat(40), (length, size) => {
        const answer = parseRange(`bytes=-${length}`, size);
        const bytes = Array.from({ length: size }, (_, i) => i);
        const sliced = typeof answer === "string" ? answer : bytes.slice(answer.start, answer.end);
        const expected = length === 0 ? "unsatisfiable" : size === 0 ? "whole" : bytes.slice(-length);
        expect(sliced).toEqual(expected);
      }),
    );
  });

  test("whatever the header says, the answer lies within the blob", () => {
    const almost = fc.stringMatching(/^bytes=[0-9]{0,3}-[0-9]{0,3}[0-9, -]{0,2}$/);
    fc.assert(
      fc.property(fc.oneof({ weight: 9, arbitrary: almost }, fc.string()), fc.nat(200), (header, size) => {
        const answer = parseRange(header, size);
        const lies =
          typeof answer === "string" ||
          (0 <= answer.start && answer.start < answer.end && answer.end <= size);
        expect(lies).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  test.for([
    ["bytes=0-9", { start: 0, end: 10 }],
    ["Bytes=0-9", { start: 0, end: 10 }],
    ["bytes= 0-9 ", { start: 0, end: 10 }],
    ["bytes=99-99", { start: 99, end: 100 }],
    ["bytes=99-", { start: 99, end: 100 }],
    ["bytes=0-99999999999999999999999999", { start: 0, end: 100 }],
    ["bytes=-100000000000000000000000000", { start: 0, end: 100 }],
    ["bytes=100-", "unsatisfiable"],
    ["bytes=100-99999999999999999999999", "unsatisfiable"],
    ["bytes=99999999999999999999999-", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    ["bytes=5-4", "whole"],
    ["bytes=0-1,5-6", "whole"],
    ["bytes=0-1, -1", "whole"],
    ["bytes=0 - 1", "whole"],
    ["bytes=--1", "whole"],
    ["bytes=-", "whole"],
    ["bytes=", "whole"],
    ["bytes", "whole"],
    ["bytes=a-b", "whole"],
    ["bytes=1.5-2", "whole"],
    ["bytes=+1-2", "whole"],
    ["bytes=0x1-0x2", "whole"],
    ["lines=0-1", "whole"],
    ["", "whole"],
    [`bytes=${"9".repeat(5_000)}-`, "unsatisfiable"],
  ] as const)("%s of 100 bytes", ([header, expected]) => {
    expect(parseRange(header, 100)).toEqual(expected);
  });
});

describe("conditions", () => {
  const other = '"sha256:00"';
  test.for([
    [{}, 200],
    [{ "if-none-match": etag }, 304],
    [{ "if-none-match": `W/${etag}` }, 304],
    [{ "if-none-match": `${other}, ${etag}` }, 304],
    [{ "if-none-match": `${other},W/${etag} ` }, 304],
    [{ "if-none-match": "*" }, 304],
    [{ "if-none-match": other }, 200],
    [{ "if-none-match": digest }, 200],
    [{ "if-none-match": "" }, 200],
    [{ "if-match": etag }, 200],
    [{ "if-match": "*" }, 200],
    [{ "if-match": `${other}, ${etag}` }, 200],
    [{ "if-match": `W/${etag}` }, 412],
    [{ "if-match": other }, 412],
    [{ "if-match": other, "if-none-match": etag }, 412],
    [{ "if-match": etag, "if-none-match": etag }, 304],
    [{ "if-modified-since": "Sat, 21 Nov 2099 00:00:00 GMT" }, 200],
    [{ "if-unmodified-since": "Sat, 21 Nov 1990 00:00:00 GMT" }, 200],
    [{ range: "bytes=1-2" }, 206],
    [{ range: "bytes=1-2", "if-none-match": etag }, 304],
    [{ range: "bytes=1-2", "if-range": etag }, 206],
    [{ range: "bytes=1-2", "if-range": `W/${etag}` }, 200],
    [{ range: "bytes=1-2", "if-range": other }, 200],
    [{ range: "bytes=1-2", "if-range": "Sat, 21 Nov 2026 00:00:00 GMT" }, 200],
    [{ range: "bytes=500-", "if-range": other }, 200],
    [{ range: "bytes=500-" }, 416],
    [{ range: "bytes=500-", "if-match": other }, 412],
  ] as [Record<string, string>, number][])("%o", ([headers, status]) => {
    const answer = plan(headers);
    expect(answer.status).toBe(status);
    expect(answer.headers["ETag"]).toBe(etag);
    const { "Content-Length": length, "Content-Range": range } = answer.headers;
    const sent = answer.range === null ? 0 : answer.range.end - answer.range.start;
    expect(length).toBe(status === 304 ? undefined : `${sent}`);
    expect(range).toBe(status === 416 ? "bytes */100" : status === 206 ? "bytes 1-2/100" : undefined);
  });

  test("HEAD is GET without bytes, and ranges are not for it", () => {
    const head = plan({ range: "bytes=1-2" }, "HEAD");
    expect(head).toMatchObject({ status: 200, range: null, headers: { "Content-Length": "100" } });
    expect(plan({ "if-none-match": etag }, "HEAD").status).toBe(304);
  });

  test("an empty blob is whole, and has no range", () => {
    expect(plan({}, "GET", 0)).toMatchObject({ status: 200, range: { start: 0, end: 0 } });
    expect(plan({ range: "bytes=0-" }, "GET", 0).status).toBe(416);
    expect(plan({ range: "bytes=-5" }, "GET", 0).status).toBe(200);
  });
});

const ATTR_CHAR_OR_ESCAPE = /^(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*$/;
const DISPOSITION = /^attachment; filename="([\x20\x21\x23-\x5b\x5d-\x7e]*)"; filename\*=UTF-8''(\S*)$/;

/** What a client reads out of the header. */
function read(header: string): { fallback: string; filename: string } {
  const match = DISPOSITION.exec(header);
  expect(match).not.toBeNull();
  const [, fallback, encoded] = match!;
  expect(encoded).toMatch(ATTR_CHAR_OR_ESCAPE);
  return { fallback: fallback!, filename: decodeURIComponent(encoded!) };
}

describe("Content-Disposition", () => {
  test("any name comes back exactly, and nothing of it ends or splits the header", () => {
    const names = fc.oneof(
      fc.string({ unit: "binary", maxLength: 255 }),
      fc.string({ unit: "grapheme", maxLength: 60 }),
      fc
        .array(fc.constantFrom('"', "\\", "\r", "\n", ";", "%", "'", "*", "=", "\0", "\u202e", "ä", "/"), {
          maxLength: 40,
        })
        .map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(names, (name) => {
        const header = contentDisposition(name);
        expect(() => validateHeaderValue("content-disposition", header)).not.toThrow();
        expect(new Headers({ "content-disposition": header }).get("content-disposition")).toBe(header);
        expect(read(header).filename).toBe(name.toWellFormed());
      }),
      { numRuns: 600 },
    );
  });

  test.for([
    ["report.pdf", "report.pdf"],
    ["Übersicht.pdf", "_bersicht.pdf"],
    ["\u65e5\u672c.txt", "__.txt"],
    ["\u{1f600}.png", "_.png"],
    ['a"b.txt', "a_b.txt"],
    ["a\\b.txt", "a_b.txt"],
    ["100%.txt", "100_.txt"],
    ["%41.txt", "_41.txt"],
    ["x\r\nSet-Cookie: a=b", "x__Set-Cookie: a=b"],
    ['"; filename="evil.exe', "_; filename=_evil.exe"],
    ["e\u0301.txt", "e_.txt"],
    ["\ud800.txt", "_.txt"],
    ["a;b=c.txt", "a;b=c.txt"],
    ["", ""],
  ] as const)("%j falls back to ASCII", ([name, fallback]) => {
    expect(read(contentDisposition(name))).toEqual({ fallback, filename: name.toWellFormed() });
  });
});

describe("Content-Type", () => {
  test.for([
    "application/pdf",
    "text/plain; charset=utf-8",
    'multipart/mixed; boundary="a b;c"',
    "image/svg+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text/plain;charset=utf-8 ; a=b",
  ])("%s is kept", (type) => {
    expect(safeContentType(type)).toBe(type);
  });

  test.for([
    "",
    "pdf",
    "/",
    "a/",
    "/b",
    "a/b/c",
    "text/html\r\nX-Evil: 1",
    "text/html\nX-Evil: 1",
    "text/html\0",
    "text/html; charset=ü",
    'text/html; a="\r\n"',
    'text/html; a="unclosed',
    "text/html;",
    "text/html; a",
    " text/html",
    "text /html",
    `text/${"x".repeat(300)}`,
  ])("%j becomes octet-stream", (type) => {
    expect(safeContentType(type)).toBe("application/octet-stream");
  });

  test("whatever comes in, what goes out is a header value of one line", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.string()), (type) => {
        const safe = safeContentType(type);
        expect(() => validateHeaderValue("content-type", safe)).not.toThrow();
        expect(safe).toMatch(/^[\x20-\x7e\t]+$/);
      }),
    );
  });
});
