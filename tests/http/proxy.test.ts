/**
 * Whose request it is behind proxies: laws of the address that is told, the corners of both headers, and that a header
 * from hands nobody trusts changes nothing at all.
 */

import { isIP } from "node:net";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { clientAddressBehind, type ForwardedRequest } from "../../packages/cli/src/proxy.ts";
import { type Harness, openHarness, PUBLIC_URL } from "./harness.ts";

const PEER = "10.0.0.1";
const TRUSTED = ["10.0.0.0/8", "fd00::/8"];

const request = (
  headers: Readonly<Record<string, string>>,
  remoteAddress: string | undefined = PEER,
): ForwardedRequest => ({ headers, socket: { remoteAddress } });

const addressOf = clientAddressBehind(TRUSTED);
const forwardedFor = (value: string): string | null => addressOf(request({ "x-forwarded-for": value }));
const forwarded = (value: string): string | null => addressOf(request({ forwarded: value }));

const trusted = fc.oneof(
  fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255)).map((rest) => `10.${rest.join(".")}`),
  fc.integer({ min: 1, max: 0xffff }).map((n) => `fd00::${n.toString(16)}`),
);
const untrusted = fc.oneof(
  fc.ipV4().filter((address) => !address.startsWith("10.")),
  fc.integer({ min: 1, max: 0xffff }).map((n) => `2001:db8::${n.toString(16)}`),
);
/** What a client may have written before any proxy added to it. */
const madeUp = fc.oneof(
  fc.string({ maxLength: 40 }),
  untrusted,
  trusted,
  fc.constantFrom("unknown", "_secret", '"', "for=", "for=1.2.3.4", 'for="[::1', "\\", ";", ",,"),
);
/** An address as proxies write it into each header. */
const written = (address: string, port: string): string =>
  address.includes(":") ? (port === "" ? address : `[${address}]${port}`) : address + port;
const asElement = (address: string, port: string): string =>
  address.includes(":")
    ? `for="[${address}]${port}"`
    : port === ""
      ? `for=${address}`
      : `for="${address}${port}"`;
const port = fc.constantFrom("", ":80", ":65535");

describe("laws", () => {
  test("the address is the peer's, or one that stands in the header right of every untrusted hop", () => {
    const hop = fc.oneof(trusted, untrusted, madeUp);
    fc.assert(
      fc.property(
        fc.array(hop, { maxLength: 12 }),
        fc.constantFrom("x-forwarded-for", "forwarded"),
        (hops, name) => {
          const value = hops.join(", ");
          const address = addressOf(request({ [name]: value }));
          expect(isIP(address ?? "")).not.toBe(0);
          if (address === PEER) return;
          const pieces = value.split(",").map((piece) => piece.trim());
          const at = pieces.findLastIndex((piece) => piece.includes(address!));
          expect(at).toBeGreaterThanOrEqual(0);
          for (const piece of pieces.slice(at + 1).filter((one) => one !== "")) {
            const [right] = /(?:\d+\.){3}\d+|[\da-f]*:[\da-f:]+/.exec(piece) ?? [];
            expect(right).toMatch(/^10\.|^fd00::/);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("what trusted proxies appended decides, whatever the client wrote before it", () => {
    fc.assert(
      fc.property(
        fc.array(madeUp, { maxLength: 4 }),
        untrusted,
        fc.array(trusted, { maxLength: 4 }),
        port,
        (forged, client, proxies, at) => {
          const chain = [client, ...proxies];
          const list = [...forged, ...chain.map((one) => written(one, at))].join(", ");
          expect(forwardedFor(list)).toBe(client);
          const elements = [...forged, ...chain.map((one) => asElement(one, at))].join(",");
          expect(forwarded(elements)).toBe(client);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("no header of a peer that is not trusted is read", () => {
    fc.assert(
      fc.property(untrusted, madeUp, madeUp, (peer, one, two) => {
        const headers = { "x-forwarded-for": one, forwarded: two };
        expect(addressOf(request(headers, peer))).toBe(peer);
        expect(clientAddressBehind([])(request(headers, peer))).toBe(peer);
      }),
    );
  });

  test("any text is taken, of any length", () => {
    const hostile = [
      ",".repeat(100_000),
      `${"10.0.0.2,".repeat(20_000)}10.0.0.3`,
      `for=${'"'.repeat(50_000)}`,
      `for="${"\\".repeat(50_000)}`,
      "for=1.2.3.4;".repeat(10_000),
      `${" ".repeat(100_000)}1.2.3.4`,
      "[".repeat(50_000),
      `${"1.".repeat(50_000)}1`,
    ];
    for (const text of hostile) {
      expect(isIP(forwardedFor(text) ?? "")).not.toBe(0);
      expect(isIP(forwarded(text) ?? "")).not.toBe(0);
    }
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
        (text) => {
          expect(isIP(forwardedFor(text) ?? "")).not.toBe(0);
          expect(isIP(forwarded(text) ?? "")).not.toBe(0);
        },
      ),
    );
  });
});

describe("X-Forwarded-For", () => {
  test.each([
    ["203.0.113.9", "203.0.113.9"],
    ["203.0.113.9:4711", "203.0.113.9"],
    ["2001:DB8::1", "2001:db8::1"],
    ["[2001:db8:0:0::1]:443", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["::ffff:203.0.113.9", "203.0.113.9"],
    ["1.2.3.4, 203.0.113.9", "203.0.113.9"],
    ["1.2.3.4, 203.0.113.9, 10.0.0.2", "203.0.113.9"],
    ["1.2.3.4,203.0.113.9,\t[fd00::2]:80", "203.0.113.9"],
    ["203.0.113.9, , ,", "203.0.113.9"],
    // All of them are ours: the first one asked.
    ["10.9.9.9, 10.0.0.2", "10.9.9.9"],
    // Who cannot be read ends the chain, and the last trusted hand is as far as is known.
    ["203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"],
    ["203.0.113.9, _hidden", PEER],
    ["203.0.113.9 10.0.0.2", PEER],
    ["203.0.113.9:port", PEER],
    ["203.0.113.9:123456", PEER],
    ["203.0.113.256", PEER],
    ["0xcb.0.113.9", PEER],
    ["203.0.113.09", PEER],
    ["fe80::1%eth0", PEER],
    ["[203.0.113.9]:80", PEER],
    ["2001:db8::1]:80", PEER],
    ["files.example.com", PEER],
    ["", PEER],
  ])("%j is %s", (value, address) => {
    expect(forwardedFor(value)).toBe(address);
  });

  test("more hops than any chain has are not followed to the end", () => {
    expect(forwardedFor(`203.0.113.9, ${Array(31).fill("10.0.0.2").join(", ")}`)).toBe("203.0.113.9");
    expect(forwardedFor(`203.0.113.9, ${Array(32).fill("10.0.0.2").join(", ")}`)).toBe("10.0.0.2");
    expect(forwardedFor(`${"0".repeat(600)}203.0.113.9`)).toBe(PEER);
  });
});

describe("Forwarded", () => {
  test.each([
    ["for=203.0.113.9", "203.0.113.9"],
    ["For=203.0.113.9;Proto=https;by=10.0.0.2", "203.0.113.9"],
    ['proto=http; for="203.0.113.9:4711" ;host=evil.example', "203.0.113.9"],
    ['for="[2001:db8::1]:4711"', "2001:db8::1"],
    ['for="\\2\\03.0.113.9"', "203.0.113.9"],
    ['for="[2001:db8::1]:_port"', "2001:db8::1"],
    ["for=1.2.3.4, for=203.0.113.9;proto=https, for=10.0.0.2", "203.0.113.9"],
    ["for=203.0.113.9, for=unknown, for=10.0.0.2", "10.0.0.2"],
    ["for=_hidden", PEER],
    ["for=unknown", PEER],
    ["by=203.0.113.9", PEER],
    ["for=203.0.113.9;for=1.2.3.4", PEER],
    ["for = 203.0.113.9", PEER],
    ['for="203.0.113.9', PEER],
    ["for=[2001:db8::1]", PEER],
    ["203.0.113.9", PEER],
    // What a client had a proxy quote cannot be taken for an element of its own.
    ['for=203.0.113.9;host="a, for=6.6.6.6"', PEER],
    ['for=203.0.113.9;host="a, for=6.6.6.6;x=";proto=https', PEER],
    ['for=203.0.113.9;host="a, for=6.6.6.6;x=\\"";proto=https', PEER],
  ])("%j is %s", (value, address) => {
    expect(forwarded(value)).toBe(address);
  });
});

describe("both headers, and peers", () => {
  test("only headers that agree are believed: one of them may be the client's own", () => {
    const both = (one: string, two: string): string | null =>
      addressOf(request({ "x-forwarded-for": one, forwarded: two }));
    expect(both("203.0.113.9", "for=203.0.113.9")).toBe("203.0.113.9");
    expect(both("203.0.113.9", "for=6.6.6.6")).toBe(PEER);
    expect(both("6.6.6.6", "for=203.0.113.9")).toBe(PEER);
  });

  test("peers are compared in their plain form", () => {
    const header = { "x-forwarded-for": "203.0.113.9" };
    expect(addressOf(request(header, "::ffff:10.0.0.1"))).toBe("203.0.113.9");
    expect(addressOf(request(header, "::ffff:192.0.2.1"))).toBe("192.0.2.1");
    expect(addressOf(request(header, "FD00:0::5"))).toBe("203.0.113.9");
    expect(clientAddressBehind(["fe80::/10"])(request(header, "fe80::1%eth0"))).toBe("203.0.113.9");
    expect(clientAddressBehind(["10.0.0.1/32"])(request(header, "10.0.0.2"))).toBe("10.0.0.2");
    expect(addressOf(request(header, ""))).toBeNull();
    expect(addressOf({ headers: header, socket: {} })).toBeNull();
  });
});

describe("in the app", () => {
  const open = async (): Promise<Harness> => {
    const harness = await openHarness({
      app: { clientAddress: ({ incoming }) => addressOf(incoming as ForwardedRequest) },
    });
    onTestFinished(() => harness.close());
    return harness;
  };
  const lineFor = async (headers: Record<string, string>, peer: string): Promise<unknown> => {
    const { app, lines } = await open();
    const response = await app.request(
      `${PUBLIC_URL}/v1/nowhere`,
      { headers },
      { incoming: request(headers, peer) },
    );
    expect(response.status).toBe(404);
    return lines.findLast(({ message }) => message === "request")?.fields["remoteAddress"];
  };

  test("the log tells the client's address, and a peer's own where its headers are forged", async () => {
    expect(await lineFor({ "x-forwarded-for": "203.0.113.9" }, PEER)).toBe("203.0.113.9");
    expect(await lineFor({ "x-forwarded-for": "203.0.113.9" }, "198.51.100.7")).toBe("198.51.100.7");
    expect(await lineFor({ forwarded: "for=203.0.113.9" }, "198.51.100.7")).toBe("198.51.100.7");
  });

  test("a host that knows no addresses notes none", async () => {
    const harness = await openHarness();
    onTestFinished(() => harness.close());
    await harness.fetch("/v1/nowhere", { headers: { "x-forwarded-for": "203.0.113.9" } });
    expect(JSON.stringify(harness.lines)).not.toContain("203.0.113.9");
  });
});
