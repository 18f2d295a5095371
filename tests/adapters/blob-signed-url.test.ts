/**
 * Signed blob URLs of one key: only the exact one that was signed is redeemed, until its expiry and not a millisecond
 * longer. Several keys, and what a refusal says, are in blob-urls.test.ts.
 */

import { createHmac } from "node:crypto";
import { createUrlSigner } from "../../packages/adapters/src/blob/signed-url.ts";
import type { SignGetOptions } from "@docyard/core";
import { isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const NOW = 1_800_000_000_000;
const EXPIRES = NOW + 3_600_000;
const BASE = "https://files.example/below/here";
const KEY = "docks/dock_default/artifacts/2026-11-21/01hzx-00ff";
const secret = new Uint8Array(32).fill(7);

const signerAt = (now: number, base = BASE) => createUrlSigner({ baseUrl: base, secret, now: () => now });
const signer = signerAt(NOW);
const get: SignGetOptions = {
  expiresAt: EXPIRES,
  filename: "Bericht & Co = 100% #1?.pdf",
  contentType: "application/pdf",
  size: 1_234,
  digest: "ab".repeat(32),
  artifactId: "art_01HZX",
  principalId: "mc_7",
};
const GET_URL = signer.signGet(KEY, get).url;
const PUT_URL = signer.signPut(KEY, { expiresAt: EXPIRES, sizeMax: 5_000, artifactId: "art_01HZX" }).url;

/** `redeemed`, `not ours`, or the code it was refused with. */
function outcome(method: string, target: string, now = NOW): string {
  try {
    return signerAt(now).redeem(method, target) === null ? "not ours" : "redeemed";
  } catch (error) {
    return isDocyardError(error) ? error.code : `unexpected ${String(error)}`;
  }
}

/** What a refusal says. */
function messageOf(method: string, target: string, now: number): string {
  try {
    signerAt(now).redeem(method, target);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

const withParam = (url: string, name: string, change: (value: string) => string | null): string => {
  const changed = new URL(url);
  const value = change(changed.searchParams.get(name) ?? "");
  if (value === null) changed.searchParams.delete(name);
  else changed.searchParams.set(name, value);
  return changed.href;
};
const withSignature = (url: string, change: (hex: string) => string): string =>
  url.replace(/signature=([0-9a-f]+)/, (_, hex: string) => `signature=${change(hex)}`);
const flip = (hex: string, at: number): string =>
  hex.slice(0, at) + (hex[at] === "0" ? "1" : "0") + hex.slice(at + 1);

const NAMES = {
  GET: ["artifact", "digest", "expires", "for", "name", "size", "type", "signature"],
  PUT: ["artifact", "expires", "max", "signature"],
} as const;

const tampered: [name: string, method: string, url: string][] = [];
for (const [method, url] of [
  ["GET", GET_URL],
  ["PUT", PUT_URL],
] as const) {
  for (const name of NAMES[method]) {
    tampered.push(
      [`${method} without ${name}`, method, withParam(url, name, () => null)],
      [`${method} with an empty ${name}`, method, withParam(url, name, () => "")],
      [`${method} with one more character in ${name}`, method, withParam(url, name, (value) => `${value}0`)],
      [`${method} with a space after ${name}`, method, withParam(url, name, (value) => `${value} `)],
      [`${method} with ${name} twice`, method, `${url}&${name}=${new URL(url).searchParams.get(name)}`],
      [`${method} with ${name} in capitals`, method, url.replace(`${name}=`, `${name.toUpperCase()}=`)],
    );
  }
  tampered.push(
    [`${method} with an extra parameter`, method, `${url}&utm_source=mail`],
    [`${method} with an extra empty parameter`, method, `${url}&x`],
    [`${method} with a later expiry`, method, withParam(url, "expires", (ms) => `${Number(ms) + 1}`)],
    [`${method} with expiry NaN`, method, withParam(url, "expires", () => "NaN")],
    [`${method} with expiry Infinity`, method, withParam(url, "expires", () => "Infinity")],
    [`${method} with expiry in exponents`, method, withParam(url, "expires", () => "1e99")],
    [`${method} with an upper-case signature`, method, withSignature(url, (hex) => hex.toUpperCase())],
    [`${method} with a truncated signature`, method, withSignature(url, (hex) => hex.slice(0, -1))],
    [`${method} with half a signature`, method, withSignature(url, (hex) => hex.slice(0, 32))],
    [`${method} with a longer signature`, method, withSignature(url, (hex) => `${hex}00`)],
    [`${method} with a signature that is no hex`, method, withSignature(url, (hex) => `zz${hex.slice(2)}`)],
    [`${method} with the first bit changed`, method, withSignature(url, (hex) => flip(hex, 0))],
    [`${method} with the last bit changed`, method, withSignature(url, (hex) => flip(hex, 63))],
    [`${method} with 64 zeros`, method, withSignature(url, () => "0".repeat(64))],
    [`${method} with trailing characters`, method, `${url}x`],
    [`${method} with a line break`, method, `${url}%0a`],
    [`${method} without a query`, method, url.split("?")[0]!],
    [`${method} for another key`, method, url.replace("01hzx-00ff", "01hzx-00fe")],
    [`${method} for a key in capitals`, method, url.replace("01hzx", "01HZX")],
    [`${method} for a key above`, method, url.replace("/01hzx-00ff", "")],
    [`${method} for a key below`, method, url.replace("01hzx-00ff", "01hzx-00ff/x")],
    [`${method} with a doubled slash`, method, url.replace("docks/", "docks//")],
    [`${method} with a trailing slash`, method, url.replace("?", "/?")],
    [`${method} with a percent-encoded letter in the path`, method, url.replace("docks", "%64ocks")],
    [`${method} with a percent-encoded slash in the path`, method, url.replace("docks/", "docks%2f")],
    [`${method} with dots in the path, raw`, method, `/v1/blobs/x/../${KEY}?${url.split("?")[1]}`],
    [`${method} on another route`, method, url.replace("/v1/blobs/", "/v1/other/")],
    [`${method} signature on the other class of URL`, method === "GET" ? "PUT" : "GET", url],
  );
  for (const other of ["POST", "DELETE", "PATCH", "OPTIONS", "CONNECT", "get", "put", ""]) {
    tampered.push([`${method} URL by ${JSON.stringify(other)}`, other, url]);
  }
}
tampered.push(["PUT URL by HEAD", "HEAD", PUT_URL], ["no URL at all", "GET", ""], ["garbage", "GET", "::::"]);

describe("signed blob URLs", () => {
  test("what was signed comes back", () => {
    const { grant, ...download } = signer.redeem("GET", GET_URL) as ReturnType<typeof signer.redeem> & {
      filename: string;
    };
    expect(grant).toEqual({ method: "GET", key: KEY, artifactId: "art_01HZX", principalId: "mc_7" });
    const { filename, contentType, size, digest } = get;
    expect(download).toEqual({ filename, contentType, size, digest });
    expect(signer.redeem("PUT", PUT_URL)).toEqual({
      grant: { method: "PUT", key: KEY, artifactId: "art_01HZX", principalId: null },
      sizeMax: 5_000,
    });
    expect(signer.redeem("HEAD", GET_URL)?.grant.method).toBe("HEAD");
  });

  test("any filename, type and id survive the URL", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 80 }),
        fc.string({ unit: "binary", maxLength: 40 }),
        fc.string({ unit: "grapheme", maxLength: 20 }),
        (filename, contentType, principalId) => {
          const { url } = signer.signGet(KEY, { ...get, filename, contentType, principalId });
          expect(new URL(url).href).toBe(url);
          expect(signer.redeem("GET", url)).toMatchObject({
            filename: filename.toWellFormed(),
            contentType: contentType.toWellFormed(),
            grant: { principalId: principalId.toWellFormed() },
          });
        },
      ),
    );
  });

  test("URLs signed one after the other say what each was asked to, whatever they have in common", () => {
    // Few values, so that parameters stay the same from one URL to the next, change, and come back.
    const some = <T>(...values: T[]) => fc.constantFrom(...values);
    const asked = fc.record({
      artifactId: some("art_01HZX", "art_01HZY"),
      digest: some("ab".repeat(32), "cd".repeat(32)),
      expiresAt: some(EXPIRES, EXPIRES + 1),
      principalId: some("mc_7", "7", "null"),
      filename: some("", "7", "a b.pdf", "a+b.pdf", "\ud800", "\udc00"),
      size: some(0, 7, 1_234),
      contentType: some("", "application/pdf", "text/plain; charset=utf-8"),
    });
    const put = fc.record({
      artifactId: some("7", "art_01HZX"),
      expiresAt: some(EXPIRES),
      sizeMax: some(7, 8),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(asked, put), { minLength: 2, maxLength: 20 }), (all) => {
        for (const [options, upload] of all) {
          const { url } = signer.signGet(KEY, options);
          const query = new URLSearchParams({
            artifact: options.artifactId,
            digest: options.digest,
            expires: String(options.expiresAt),
            for: options.principalId,
            name: options.filename.toWellFormed(),
            size: String(options.size),
            type: options.contentType,
          });
          const said = [...new URL(url).searchParams];
          expect(said.slice(0, -1)).toEqual([...query]);
          const text = `docyard blob url 1\nGET\n${KEY}\n${url.slice(url.indexOf("?") + 1, url.lastIndexOf("&"))}`;
          expect(said.at(-1)).toEqual(["signature", createHmac("sha256", secret).update(text).digest("hex")]);
          expect(signer.redeem("PUT", signer.signPut(KEY, upload).url)).toMatchObject({
            grant: { artifactId: upload.artifactId },
            sizeMax: upload.sizeMax,
          });
        }
      }),
    );
  });

  test(`each of ${tampered.length} changes makes it another's`, () => {
    expect(tampered.length).toBeGreaterThan(100);
    const accepted = tampered.filter(([, method, url]) => outcome(method, url) !== "not ours");
    expect(accepted.map(([name]) => name)).toEqual([]);
  });

  test("any single character changed in path or query is refused", () => {
    const path = GET_URL.slice(BASE.length);
    fc.assert(
      fc.property(fc.nat(path.length - 1), fc.integer({ min: 0x21, max: 0x7e }), (at, code) => {
        const changed = path.slice(0, at) + String.fromCharCode(code) + path.slice(at + 1);
        const isSame = changed === path || sameMeaning(changed, path);
        expect(outcome("GET", changed)).toBe(isSame ? "redeemed" : "not ours");
      }),
      { numRuns: 1_000 },
    );
  });

  test("40 clock offsets: redeemed strictly before the expiry, refused with advice from then on", () => {
    const offsets = [
      0, 1, 2, 999, 1_000, 1_001, 60_000, 300_000, 900_000, 3_600_000, 86_400_000, 604_800_000,
    ];
    const moments = [...offsets, 5, 10, 50, 100, 500, 5_000, 30_000, 31_536_000_000].flatMap((ms) => [
      ms,
      -ms,
    ]);
    expect(moments.length).toBe(40);
    for (const offset of moments) {
      const now = EXPIRES + offset;
      for (const [method, url, advice] of [
        ["GET", GET_URL, "This download URL has expired: list again for a fresh one"],
        ["HEAD", GET_URL, "This download URL has expired: list again for a fresh one"],
        ["PUT", PUT_URL, "This upload URL has expired: create the artifact again for a fresh one"],
      ] as const) {
        const verdict = now < EXPIRES ? "redeemed" : advice;
        expect([offset, now < EXPIRES ? outcome(method, url, now) : messageOf(method, url, now)]).toEqual([
          offset,
          verdict,
        ]);
      }
    }
    for (const broken of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(outcome("GET", GET_URL, broken)).toBe("permission_denied");
    }
  });

  test("a forged URL is not told whether it has expired", () => {
    const forged = withSignature(GET_URL, (hex) => flip(hex, 5));
    expect(outcome("GET", forged, EXPIRES + 1)).toBe("not ours");
  });

  test("proxies may reorder parameters, re-encode them, or take the public path off", () => {
    const [path, query] = GET_URL.slice("https://files.example".length).split("?") as [string, string];
    const parts = query.split("&");
    for (const target of [
      `${path}?${parts.toReversed().join("&")}`,
      `${path}?${query.replaceAll("%20", "+")}`,
      `${path}?${query.replaceAll("%2F", "/")}`,
      `${path}?${query.replace("artifact=art", "artifact=%61rt")}`,
      `${path.slice("/below/here".length)}?${query}`,
      `http://10.0.0.7:8080${path}?${query}`,
    ]) {
      expect([target, outcome("GET", target)]).toEqual([target, "redeemed"]);
    }
  });

  test("the public URL may carry a path, a trailing slash, or come late", () => {
    let base = "http://unset.example";
    const late = createUrlSigner({ baseUrl: () => base, secret, now: () => NOW });
    for (const [next, start] of [
      ["http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/blobs/"],
      ["https://x.example/", "https://x.example/v1/blobs/"],
      ["https://x.example/a/b//", "https://x.example/a/b/v1/blobs/"],
    ] as const) {
      base = next;
      const { url } = late.signGet(KEY, get);
      expect(url.startsWith(start + KEY)).toBe(true);
      expect(late.redeem("GET", url)?.grant.key).toBe(KEY);
    }
  });

  test("another secret's URLs are not ours, and a short secret at once", () => {
    const other = createUrlSigner({ baseUrl: BASE, secret: new Uint8Array(32).fill(8), now: () => NOW });
    expect(outcome("GET", other.signGet(KEY, get).url)).toBe("not ours");
    const short = () => createUrlSigner({ baseUrl: BASE, secret: new Uint8Array(15), now: () => NOW });
    expect(short).toThrow(TypeError);
  });

  test("an expiry that is no whole number is a programmer's mistake", () => {
    for (const expiresAt of [Number.NaN, Number.POSITIVE_INFINITY, 1.5]) {
      expect(() => signer.signGet(KEY, { ...get, expiresAt })).toThrow(TypeError);
    }
  });
});

/** Whether two targets differ only in how a character is written. */
function sameMeaning(a: string, b: string): boolean {
  const [pathA, queryA] = a.split("?");
  const [pathB, queryB] = b.split("?");
  if (pathA !== pathB || queryA === undefined || a.split("?").length !== 2) return false;
  const sorted = (query: string | undefined): string =>
    JSON.stringify([...new URLSearchParams(query)].map(([name, value]) => `${name}=${value}`).toSorted());
  return sorted(queryA) === sorted(queryB);
}
