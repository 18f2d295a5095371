/**
 * Which URLs may be read (ruling 12, lesson R-26): addresses, names, ports, redirects and rebinding.
 * How bodies travel is in fetch-transfer.test.ts.
 */

import { addressPolicy } from "../../packages/adapters/src/fetch/address.ts";
import type { HttpFetchOptions, Resolver } from "@docyard/adapters/fetch/http";
import { httpFetch } from "@docyard/adapters/fetch/http";
import { DocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Origin } from "./fetch-origin.ts";
import { PRIVATE, PUBLIC, collect, faultOf, startOrigin } from "./fetch-origin.ts";

const SIZE_MAX = 1 << 20;

let shown: Origin;
let hidden: Origin;

beforeAll(async () => {
  shown = await startOrigin((request, response) => {
    const query = new URLSearchParams((request.url ?? "").split("?")[1] ?? "");
    const to = query.get("to");
    if (to === null) response.end("public");
    else response.writeHead(Number(query.get("status") ?? 302), { location: to }).end();
  });
  hidden = await startOrigin((_, response) => response.end("private"), PRIVATE);
});

afterAll(async () => {
  await Promise.all([shown.close(), hidden.close()]);
});

/** Opens and reads with a driver of its own; the names in `names` resolve as given, all others not at all. */
async function read(
  url: string,
  options: HttpFetchOptions = {},
  names: Record<string, readonly string[]> = {},
): Promise<string> {
  const resolver: Resolver = async (hostname) => {
    const addresses = names[hostname];
    if (addresses === undefined) throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
    return addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  };
  const fetcher = httpFetch({ resolver, ...options });
  try {
    const { body } = await fetcher.open(url, { sizeMax: SIZE_MAX });
    return (await collect(body)).toString();
  } finally {
    await fetcher.close();
  }
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  const fault = await faultOf(work);
  expect(fault).toBeInstanceOf(DocyardError);
  return (fault as DocyardError).code;
}

/** The words of a table, parted by white space. */
const words = (text: string): string[] => text.trim().split(/\s+/);

/** Refused literal hosts: every spelling ends at an address that is not public. */
const REFUSED_HOSTS = [
  // Loopback, in all the spellings that URL parsers accept.
  ...words(`127.0.0.1 127.0.0.3 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7f.1 0177.0.0.1
    0177.1 017700000001 0x7f.0x0.0x0.0x1 127.0.0.1. 127.0.0.01 0 0.0.0.0 0.0.0.1 0.255.255.255
    %31%32%37.0.0.1 127%2e0%2e0%2e1 ①②⑦.⓪.⓪.① 127。0。0。1 １２７.0.0.1`),
  // Private, link-local, carrier, benchmark, documentation, multicast, reserved.
  ...words(`10.0.0.1 10.255.255.255 167772161 172.16.0.1 172.31.255.255 192.168.0.1 3232235521
    192.168.255.255 0xc0a80001 169.254.0.1 169.254.169.254 2852039166 0xa9fea9fe 0xA9.254.43518
    169.254.170.2 100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.1 192.0.0.192 192.0.2.1
    198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 192.88.99.1 192.31.196.1 192.52.193.1
    192.175.48.1 168.63.129.16 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 4294967295`),
  // IPv6: own, private, multicast, documentation, discard, protocol assignments, unassigned.
  ...words(`[::] [::1] [0:0:0:0:0:0:0:1] [::0001] [fe80::1] [febf::1] [fec0::1] [fc00::1]
    [fd00:ec2::254] [fdff::1] [ff02::1] [2001:db8::1] [3fff::1] [100::1] [2001::1] [5f00::1]
    [2001:2::1] [2001:10::1] [2001:20::1] [2620:4f:8000::1] [4000::1] [e000::1]`),
  // IPv6 transition forms around private addresses …
  ...words(`[::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:10.0.0.1] [::ffff:169.254.169.254]
    [::ffff:0:127.0.0.1] [::127.0.0.1] [::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe]
    [64:ff9b:1::10.0.0.1] [2002:7f00:1::] [2002:7f00:1::1] [2002:a00:1::1] [2002:c0a8:1::1]
    [2001:0:0:0:0:0:80ff:fffe] [2001:0:4136:e378:8000:63bf:5601:5601] [fe80::5efe:127.0.0.1]
    [2a00::5efe:127.0.0.1] [2a00::200:5efe:10.0.0.1]`),
  // … and around public ones: a tunnel is not a host.
  ...words(`[::ffff:8.8.8.8] [64:ff9b::8.8.8.8] [2002:808:808::1] [::8.8.8.8] [2a00::5efe:8.8.8.8]`),
];

/** Names and what they resolve to; one bad address spoils all. */
const REFUSED_NAMES: Record<string, readonly string[]> = {
  localhost: ["127.0.0.1"],
  "localhost.": ["127.0.0.1"],
  "localhost6.test": ["::1"],
  "metadata.google.internal": ["169.254.169.254"],
  "metadata.test": ["fd00:ec2::254"],
  "private.test": ["10.1.2.3"],
  "private.test.": ["10.1.2.3"],
  "xn--mnchen-3ya.test": ["192.168.1.1"],
  "mapped.test": ["::ffff:10.0.0.1"],
  "nat64.test": ["64:ff9b::a00:1"],
  "6to4.test": ["2002:a00:1::1"],
  "zone.test": ["fe80::1%lo"],
  "mixed4.test": ["93.184.215.14", "127.0.0.1"],
  "mixed6.test": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::1"],
  "mixed46.test": ["93.184.215.14", "fd00::1"],
  "loose.test": ["0x7f.1"],
  "octal.test": ["0177.0.0.1"],
  "empty-text.test": [""],
  "not-an-address.test": ["private.test"],
  "unspecified.test": ["0.0.0.0"],
};

const REFUSED_URLS = [
  // Schemes.
  "file:///etc/passwd",
  "ftp://example.test/x",
  "gopher://127.0.0.1:70/_x",
  "data:text/plain,x",
  "blob:http://a/b",
  "javascript:alert(1)",
  "ws://example.test/",
  "dict://127.0.0.1:11211/",
  "ldap://example.test/",
  "jar:http://a!/",
  "view-source:http://example.test/",
  "about:blank",
  "s3://bucket/key",
  // Credentials.
  "http://user@example.test/",
  "http://user:pass@example.test/",
  "http://:pass@example.test/",
  "https://a%40b@example.test/",
  "http://example.test%40@127.0.0.1/",
  "http://example.test:80@127.0.0.1/",
  // The host is not what it looks like.
  "http://127.0.0.1\\@example.test/",
  "http:\\\\127.0.0.1\\x",
  "http:/127.0.0.1/",
  "http:127.0.0.1/",
  "http:///127.0.0.1/",
  "http://127.0.0.1#@example.test/",
  "http://127.0.0.1?@example.test/",
  "\thttp://127.0.\t0.1/\n",
  "  http://10.0.0.1/ ",
  "hTTp://127.0.0.1/",
  "http://127.0.0.1:80\\@example.test:80/",
  // Ports.
  "http://93.184.215.14:22/",
  "http://93.184.215.14:8080/",
  "https://93.184.215.14:6379/",
  "http://93.184.215.14:25/",
  "http://93.184.215.14:1/",
  "http://[2606:4700::1111]:11211/",
  "http://public.test:3306/",
  "http://93.184.215.14:0/",
];

const NO_URLS = [
  "",
  " ",
  "example.test",
  "//example.test/",
  "/etc/passwd",
  "http://",
  "http://[::1",
  "http://a b/",
  "http://256.0.0.1/",
  "http://1.2.3.4.5/",
  "http://0x100000000/",
  "http://example.test:99999/",
  "http://[fe80::1%25lo]/",
  `http://a/${"x".repeat(9000)}`,
];

/** Globally routable, many at the edge of a range that is not. */
const PUBLIC_ADDRESSES = [
  ...words(`1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.215.14 100.63.255.255 100.128.0.0
    126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0
    192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700:4700::1111
    2a00:1450:4001:80e::200e 2001:4860:4860::8888 2400:cb00::1 3ffe:ffff::1`),
];

const BAD_NETWORKS = [
  "",
  "10.0.0.0/33",
  "10.0/8",
  "nonsense",
  "10.0.0.0/8/8",
  "0x0a.0.0.0/8",
  "::1/129",
  "example.test",
  "1.2.3.4/",
];

describe("the address policy", () => {
  const policy = addressPolicy([]);
  const ipv4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
  const groups = (ip: readonly number[]): string => {
    const [a = 0, b = 0, c = 0, d = 0] = ip;
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  };

  test("law: no IPv6 form of any IPv4 address is public", () => {
    const prefix = fc.constantFrom("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "2a00::5efe:");
    fc.assert(
      fc.property(ipv4, prefix, (ip, prefix) => {
        expect(policy.isPublic(`${prefix}${groups(ip)}`)).toBe(false);
        expect(policy.isPublic(`2002:${groups(ip)}::1`)).toBe(false);
        expect(policy.isPublic(`2001:0:1:2:3:4:${groups(ip)}`)).toBe(false);
      }),
    );
  });

  test("law: an open NAT64 network opens what is public behind it, and nothing else", () => {
    const nat64 = addressPolicy(["64:ff9b::/96"]);
    fc.assert(
      fc.property(ipv4, (ip) => {
        expect(nat64.isAllowed(`64:ff9b::${groups(ip)}`)).toBe(policy.isPublic(ip.join(".")));
      }),
    );
  });

  test("law: whatever is not a bare address is neither public nor allowed", () => {
    const open = addressPolicy(["0.0.0.0/0", "::/0"]);
    const odd = fc.constantFrom(
      "fe80::1%lo",
      "127.1",
      "0x7f.1",
      "1.2.3.4 ",
      "[::1]",
      "1.2.3.4:80",
      "2130706433",
    );
    fc.assert(
      fc.property(fc.oneof(fc.domain(), odd, fc.stringMatching(/^[g-z]{1,20}$/)), (text) => {
        expect(policy.isPublic(text)).toBe(false);
        expect(open.isAllowed(text)).toBe(false);
      }),
    );
  });

  test.each(PUBLIC_ADDRESSES)("%s is public", (address) => {
    expect(policy.isPublic(address)).toBe(true);
  });

  test.each(BAD_NETWORKS)("%j is no network", (text) => {
    expect(() => addressPolicy([text])).toThrow(TypeError);
    expect(() => httpFetch({ allow: [text] })).toThrow(TypeError);
  });

  test("an open network holds its addresses and no others", () => {
    const lan = addressPolicy(["10.1.0.0/16", "fd00:1::/32", "192.168.7.7"]);
    for (const inside of ["10.1.0.0", "10.1.255.255", "fd00:1::5", "192.168.7.7"]) {
      expect(lan.isAllowed(inside)).toBe(true);
    }
    for (const outside of [
      "10.0.255.255",
      "10.2.0.0",
      "fd00:2::5",
      "192.168.7.8",
      "::ffff:10.1.0.1",
      "8.8.8.8",
    ]) {
      expect(lan.isAllowed(outside)).toBe(false);
    }
  });
});

describe("what is refused", () => {
  test("is a long table", () => {
    const table = new Set([...REFUSED_HOSTS, ...Object.keys(REFUSED_NAMES), ...REFUSED_URLS]);
    expect(table.size).toBeGreaterThanOrEqual(150);
  });

  test.each(REFUSED_HOSTS)("host %s", async (host) => {
    expect(await codeOf(read(`http://${host}/`))).toBe("policy_rejected");
  });

  test.each(Object.keys(REFUSED_NAMES))("name %s", async (name) => {
    expect(await codeOf(read(`http://${name}/`, {}, REFUSED_NAMES))).toBe("policy_rejected");
  });

  test.each(REFUSED_URLS)("url %j", async (url) => {
    const names = { "example.test": [PRIVATE], "public.test": ["93.184.215.14"] };
    const fault = await faultOf(read(url, {}, names));
    expect((fault as DocyardError).code).toBe("policy_rejected");
    expect((fault as DocyardError).message).not.toMatch(/pass|user/);
  });

  test.each(NO_URLS)("no url %#", async (url) => {
    expect(await codeOf(read(url))).toBe("invalid_argument");
  });

  test("a closed neighbour of an open network, on any port", async () => {
    expect(await codeOf(read(hidden.url, { allow: [`${PUBLIC}/32`] }))).toBe("policy_rejected");
    expect(hidden.connections()).toBe(0);
  });

  test("a public name on a port that only an open network may use", async () => {
    const names = { "public.test": ["93.184.215.14"] };
    const options = { allow: [`${PUBLIC}/32`] };
    expect(await codeOf(read("http://public.test:8080/", options, names))).toBe("policy_rejected");
  });

  test("not by way of the environment's proxy variables", async () => {
    process.env["http_proxy"] = hidden.url;
    try {
      expect(await read(shown.url, { allow: [PUBLIC] })).toBe("public");
      expect(hidden.connections()).toBe(0);
    } finally {
      delete process.env["http_proxy"];
    }
  });
});

describe("what is allowed", () => {
  const hosts = [
    "public.test",
    "public.test.",
    "xn--mnchen-3ya.test",
    "a.b.c.d.e.f.test",
    "a_b.test",
    "single",
  ];
  const names = Object.fromEntries(
    [...hosts, "1.test", "x--y.test", "user.test"].map((host) => [host, [PUBLIC]]),
  );
  const controls = [
    "http://127.0.0.3",
    "http://127.0.3",
    "http://0x7f000003",
    "http://2130706435",
    "HTTP://127.0.0.3",
    "http://public.test",
    "http://PUBLIC.test",
    "http://public.test.",
    "http://two.test",
    "http://münchen.test",
    "http://xn--mnchen-3ya.test",
    "http://a.b.c.d.e.f.test",
    "http://a_b.test",
    "http://single",
    "http://1.test",
    "http://x--y.test",
    "http:\\\\public.test",
    "http:public.test",
    "http://user.test",
    "http://%70ublic.test",
  ];
  const paths = [
    "",
    "/",
    "/a%20b?x=1#frag",
    "/ü?q=ü",
    "/@x",
    "//double//",
    "/..%2f",
    "/?url=http://127.0.0.1/",
  ];

  test.each(controls)("%s", async (base) => {
    for (const path of paths) {
      const url = `${base}:${shown.port}${path}`;
      const known = { ...names, "two.test": [PUBLIC, PUBLIC] };
      expect(await read(url, { allow: [`${PUBLIC}/32`] }, known)).toBe("public");
    }
  });

  test("by the system's own resolver too", async () => {
    const fetcher = httpFetch({ allow: ["127.0.0.0/8", "::1"] });
    const before = hidden.connections();
    const { body } = await fetcher.open(`http://localhost:${hidden.port}/`, { sizeMax: SIZE_MAX });
    expect((await collect(body)).toString()).toBe("private");
    expect(hidden.connections()).toBe(before + 1);
    await fetcher.close();
  });
});

describe("redirects", () => {
  const allow = [`${PUBLIC}/32`];
  const via = (to: string, status = 302): string =>
    `${shown.url}/?status=${status}&to=${encodeURIComponent(to)}`;

  test.each([301, 302, 303, 307, 308])("with %i are followed, relative and absolute", async (status) => {
    expect(await read(via("/here", status), { allow })).toBe("public");
    expect(await read(via(`${shown.url}/there`, status), { allow })).toBe("public");
    expect(await read(via(`//${PUBLIC}:${shown.port}/there`, status), { allow })).toBe("public");
  });

  test.each([
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://2130706433/",
    "file:///etc/passwd",
    "ftp://x.test/",
    "//127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://private.test/",
    "gopher://x/",
    "http://a:b@public.test/",
    "\\\\127.0.0.1\\x",
    "http://93.184.215.14:22/",
    "data:text/plain,x",
    "http://[::ffff:127.0.0.1]/",
    "http://127.0.0.1:PORT/",
  ])("to %s are refused at the hop", async (to) => {
    const before = hidden.connections();
    const target = to.replace("PORT", String(hidden.port));
    for (const url of [via(target), via(via(target)), via(via(via(target, 307), 301), 308)]) {
      expect(await codeOf(read(url, { allow }, { "private.test": ["10.0.0.1"] }))).toBe("policy_rejected");
    }
    expect(hidden.connections()).toBe(before);
  });

  test("are followed five times and not a sixth", async () => {
    const chain = (hops: number): string => (hops === 0 ? `${shown.url}/end` : via(chain(hops - 1)));
    expect(await read(chain(5), { allow })).toBe("public");
    expect(await codeOf(read(chain(6), { allow }))).toBe("policy_rejected");
    expect(await codeOf(read(via("/x"), { allow, maxRedirects: 0 }))).toBe("policy_rejected");
  });

  test("beyond ASCII, in whichever encoding, lead to the bytes that were sent", async () => {
    // A header's text is Latin-1: what Node sends of it is one byte for each character.
    for (const [location, path] of [
      ["/v%C3%ADdeo.mp4", "/v%C3%ADdeo.mp4"],
      [Buffer.from("/vídeo.mp4?q=ü", "utf8").toString("latin1"), "/v%C3%ADdeo.mp4?q=%C3%BC"],
      ["/v\u00eddeo.mp4", "/v%eddeo.mp4"],
    ] as const) {
      const paths: (string | undefined)[] = [];
      const server = await startOrigin((request, response) => {
        paths.push(request.url);
        if (paths.length === 1) response.writeHead(302, { location }).end();
        else response.end("public");
      });
      expect(await read(server.url, { allow })).toBe("public");
      expect(paths[1]?.toLowerCase()).toBe(path.toLowerCase());
      await server.close();
    }
  });

  test("in a circle end", async () => {
    const circle = await startOrigin((_, response) => response.writeHead(302, { location: "/" }).end());
    expect(await codeOf(read(circle.url, { allow }))).toBe("policy_rejected");
    await circle.close();
  });

  test("to no URL at all are the origin's fault", async () => {
    const fault = await faultOf(read(via("http://[::1"), { allow }));
    expect(fault).toMatchObject({ code: "source_failed" });
  });
});

describe("rebinding", () => {
  test("gains nothing: the address that was judged is the one that is dialled", async () => {
    // A guard that looks up first and connects later would reach the second answer.
    let lookups = 0;
    const resolver: Resolver = async () => {
      lookups += 1;
      return [{ address: lookups % 2 === 1 ? PUBLIC : PRIVATE, family: 4 }];
    };
    const before = hidden.connections();
    const fetcher = httpFetch({ allow: [`${PUBLIC}/32`], resolver });
    // The private server listens on another port than the public one, so both ports are tried.
    const seen = new Set<string>();
    for (const port of [shown.port, hidden.port]) {
      for (let i = 0; i < 6; i += 1) {
        try {
          const { body } = await fetcher.open(`http://rebind.test:${port}/`, { sizeMax: SIZE_MAX });
          seen.add((await collect(body)).toString());
        } catch (error) {
          seen.add((error as DocyardError).code);
        }
      }
    }
    expect(lookups).toBeGreaterThan(1);
    expect([...seen].sort()).toEqual(["policy_rejected", "public", "upstream_failed"]);
    expect(hidden.connections()).toBe(before);
    await fetcher.close();
  });

  test("law: a name is read only if every one of its addresses may be", async () => {
    const before = hidden.connections();
    const address = fc.constantFrom(PUBLIC, PUBLIC, PUBLIC, PRIVATE, "10.0.0.1", "::1", "169.254.169.254");
    await fc.assert(
      fc.asyncProperty(fc.array(address, { minLength: 1, maxLength: 4 }), async (addresses) => {
        const result = read(`http://any.test:${shown.port}/`, { allow: [PUBLIC] }, { "any.test": addresses });
        const outcome = await result.catch((error: DocyardError) => error.code);
        expect(outcome).toBe(addresses.every((one) => one === PUBLIC) ? "public" : "policy_rejected");
      }),
      { numRuns: 60 },
    );
    expect(hidden.connections()).toBe(before);
  });
});
