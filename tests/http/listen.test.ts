/**
 * The listener on raw sockets, in the clear and over TLS: what it says to clients that do not get as far as the app, and
 * which certificates it takes, serves and refuses. What a whole server does with them is in e2e/tls.test.ts.
 */

import { once } from "node:events";
import { mkdtemp, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { STATUS_CODES } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectSecurely } from "node:tls";
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type Fetch, listen, type Listener, type ListenOptions } from "../../packages/cli/src/listen.ts";
import { type KeepOptions, keepPair, type Pair, pairFilesOf, readPair } from "../../packages/cli/src/tls.ts";
import { type Authority, createAuthority, type PairInput, type TestPair } from "../certificates.ts";

const DAY_MS = 24 * 3_600_000;

let authority: Authority;
let folder: string;

beforeAll(async () => {
  authority = await createAuthority();
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "docyard-listen-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

interface Line {
  readonly level: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

function captured(): { readonly lines: Line[]; readonly log: KeepOptions["log"] } {
  const lines: Line[] = [];
  const at = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, fields: { ...fields }, message });
  return { lines, log: { info: at("info"), warn: at("warn"), error: at("error") } };
}

/** Answers every request with its own method and path, after reading its body. */
const echo: Fetch = async (request) => {
  await request.text();
  return new Response(`${request.method} ${new URL(request.url).pathname}`);
};

async function open(
  options: Partial<ListenOptions> = {},
  app: Fetch = echo,
): Promise<{ readonly listener: Listener; readonly lines: Line[] }> {
  const { lines, log } = captured();
  const listener = await listen("127.0.0.1", 0, Promise.resolve(app), { log, ...options });
  onTestFinished(async () => void (await listener.stop(0)));
  return { listener, lines };
}

async function pairOf(input?: PairInput): Promise<{ readonly made: TestPair; readonly pair: Pair }> {
  const made = await authority.issue(input);
  return { made, pair: { cert: made.cert, key: made.key, expiresAt: made.expiresAt, looks: "" } };
}

function dial(port: number, isSecure: boolean): Socket {
  return isSecure
    ? connectSecurely({ port, host: "localhost", ca: authority.cert })
    : connect({ port, host: "127.0.0.1" });
}

/** Sends text as it stands, and resolves to all that comes back until the server closes. */
async function raw(port: number, text: string, isSecure: boolean): Promise<string> {
  const socket = dial(port, isSecure);
  let answer = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (answer += chunk));
  // A server that has said its last word may reset what we still send.
  socket.on("error", () => {});
  socket.write(text, "latin1");
  await once(socket, "close");
  return answer;
}

/** The one whole answer in what came back. */
function answerIn(text: string): { readonly status: number; readonly head: string; readonly body: unknown } {
  const [head = "", body = ""] = text.split("\r\n\r\n");
  const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1]);
  expect(body).toHaveLength(length);
  return { status: Number(/^HTTP\/1\.1 (\d{3}) \w/.exec(head)?.[1]), head, body: JSON.parse(body) };
}

describe.each([
  ["in the clear", false],
  ["over TLS", true],
])("what is no request, %s", (_, isSecure) => {
  const tls = async (): Promise<Partial<ListenOptions>> => (isSecure ? { pair: (await pairOf()).pair } : {});

  test.each([
    ["a host with a space", "GET /v1/x HTTP/1.1\r\nHost: a b\r\n\r\n", 400],
    ["a host with a path", "GET /v1/x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400],
    ["a host with a user", "GET /v1/x HTTP/1.1\r\nHost: u@b\r\n\r\n", 400],
    ["a host with a port that is none", "GET /v1/x HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400],
    ["a host that is no UTF-8", "GET /v1/x HTTP/1.1\r\nHost: \xff[\r\n\r\n", 400],
    ["no host", "GET /v1/x HTTP/1.1\r\n\r\n", 400],
    ["two hosts", "GET /v1/x HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400],
    ["a target that is not encoded", "GET /v1/x?search=\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", 400],
    ["a proxy's method", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400],
    ["a target with a backslash", "GET /v1\\x HTTP/1.1\r\nHost: a:1\r\n\r\n", 400],
    ["a target that is none", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400],
    ["another protocol", "SSH-2.0-OpenSSH_9.2\r\n", 400],
    ["a header without a colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400],
    ["two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400],
    [
      "a length beside chunks",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
    ],
    ["a chunk that is none", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400],
    ["headers without end", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`, 431],
    ["another expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n", 417],
  ])("%s is answered in the envelope", async (_name, text, expected) => {
    const { listener, lines } = await open(await tls());
    const { status, head, body } = answerIn(await raw(listener.port, text, isSecure));
    expect(status).toBe(expected);
    expect(body).toEqual({
      statusCode: expected,
      message: expect.stringMatching(/^[A-Z]/) as string,
      error: STATUS_CODES[expected],
    });
    expect(head).toMatch(/^content-type: application\/json; charset=utf-8$/im);
    expect(head).toMatch(/^cache-control: no-store$/im);
    expect(head).toMatch(/^x-content-type-options: nosniff$/im);
    expect(head).toMatch(/^connection: close$/im);
    const requestId = /^x-request-id: (.+)$/im.exec(head)?.[1];
    expect(lines).toMatchObject([
      { message: "request refused", fields: { requestId, status: expected, remoteAddress: "127.0.0.1" } },
    ]);
    // And the next one is served.
    const next = await raw(
      listener.port,
      "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      isSecure,
    );
    expect(next).toContain("GET /next");
  });

  test("a head that does not arrive in time is 408, and one that never begins is closed", async () => {
    const { listener } = await open({ ...(await tls()), headersTimeoutMs: 50 });
    const { status } = answerIn(await raw(listener.port, "GET / HTTP/1.1\r\nHost:", isSecure));
    expect(status).toBe(408);
    await raw(listener.port, "", isSecure);
  });

  test("Studio's paths are answered in Studio's words", async () => {
    const { listener } = await open(await tls());
    const text = "GET /api/studio/artifacts/create?x HTTP/1.1\r\nHost: a b\r\n\r\n";
    const { body } = answerIn(await raw(listener.port, text, isSecure));
    expect(body).toMatchObject({ status: 400 });
    expect(body).not.toHaveProperty("statusCode");
  });

  test("HTTP/1.0 knows no host and needs none; a host in any spelling is one", async () => {
    const { listener } = await open(await tls());
    expect(await raw(listener.port, "GET /old HTTP/1.0\r\n\r\n", isSecure)).toContain("GET /old");
    for (const host of ["[::1]:8080", "EXAMPLE.com.", "a", "127.0.0.1:1"]) {
      const text = `GET /host HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
      expect(await raw(listener.port, text, isSecure)).toContain("GET /host");
    }
  });

  test("in the middle of an answer nothing is said, and the connection ends", async () => {
    const { listener } = await open(
      await tls(),
      () =>
        new Response(
          new ReadableStream({ start: (body) => body.enqueue(new TextEncoder().encode("begun")) }),
        ),
    );
    const socket = dial(listener.port, isSecure);
    let answer = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => (answer += chunk));
    socket.on("error", () => {});
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await vi.waitFor(() => expect(answer).toContain("begun"), 10_000);
    socket.write("\0\0\0 garbage \r\n\r\n");
    await once(socket, "close");
    expect(answer).not.toContain("statusCode");
  });

  test("an app that throws is 500 in the envelope", async () => {
    const { listener } = await open(await tls(), () => Promise.reject(new Error("a secret")));
    const text = await raw(listener.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", isSecure);
    expect(answerIn(text)).toMatchObject({ status: 500, body: { message: "Internal server error" } });
  });

  test("an answer that its client does not take ends", async () => {
    const size = 32 * 1024 * 1024;
    const { listener } = await open(
      { ...(await tls()), answerTimeoutMs: 2_000 },
      () => new Response("x".repeat(size)),
    );
    const ask = (): Socket => {
      const socket = dial(listener.port, isSecure).pause();
      socket.on("error", () => {});
      socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      return socket;
    };
    const bytesOf = async (socket: Socket): Promise<number> => {
      let bytes = 0;
      socket.on("data", (chunk: Buffer) => (bytes += chunk.length)).resume();
      await once(socket, "close");
      return bytes;
    };
    const deaf = ask();
    expect(await bytesOf(ask())).toBeGreaterThan(size);
    await sleep(4_000);
    // What had arrived before the end is still there to be read.
    expect(await bytesOf(deaf)).toBeLessThan(size);
  });

  test("connections on which nothing was asked do not hold a stop up", async () => {
    const { listener } = await open(await tls());
    const silent = connect({ port: listener.port, host: "127.0.0.1" });
    const idle = dial(listener.port, isSecure);
    idle.resume();
    for (const socket of [silent, idle]) socket.on("error", () => {});
    await Promise.all([once(silent, "connect"), once(idle, isSecure ? "secureConnect" : "connect")]);
    expect(await listener.stop(600_000)).toBe(0);
    silent.destroy();
    idle.destroy();
  });
});

describe("TLS", () => {
  /** What a client sees: the certificate's serial number and the protocol. */
  const shake = async (
    port: number,
    options: object = {},
  ): Promise<{ readonly serial: string; readonly protocol: string | null }> => {
    const socket = connectSecurely({ port, host: "localhost", ca: authority.cert, ...options });
    try {
      await once(socket, "secureConnect");
      return { serial: socket.getPeerCertificate().serialNumber, protocol: socket.getProtocol() };
    } finally {
      socket.destroy();
    }
  };

  test("1.3 and 1.2 with forward secrecy are spoken, nothing older and nothing weaker", async () => {
    const { listener } = await open({ pair: (await pairOf({ algorithm: "rsa" })).pair });
    expect((await shake(listener.port)).protocol).toBe("TLSv1.3");
    expect((await shake(listener.port, { maxVersion: "TLSv1.2" })).protocol).toBe("TLSv1.2");
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" };
    await expect(shake(listener.port, old)).rejects.toThrow(/protocol/);
    for (const ciphers of ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "AES256-SHA"]) {
      await expect(shake(listener.port, { maxVersion: "TLSv1.2", ciphers })).rejects.toThrow(/handshake/);
    }
  });

  test("a client that speaks plain HTTP, or breaks its handshake off, harms nobody", async () => {
    const { made, pair } = await pairOf();
    const { listener } = await open({ pair });
    await raw(listener.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", false);
    await raw(listener.port, "\x16\x03\x01\xff\xff", false).catch(() => {});
    await expect(shake(listener.port, { ca: undefined })).rejects.toThrow(/certificate/);
    expect((await shake(listener.port)).serial).toBe(made.serial);
  }, 60_000);

  test("a new certificate is for new handshakes; open connections go on", async () => {
    const first = await pairOf();
    const second = await pairOf({ algorithm: "rsa" });
    const { listener } = await open({ pair: first.pair });
    const kept = connectSecurely({ port: listener.port, host: "localhost", ca: authority.cert });
    await once(kept, "secureConnect");
    listener.useCertificate(second.pair);
    expect((await shake(listener.port)).serial).toBe(second.made.serial);
    kept.write("GET /kept HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const [answer] = (await once(kept, "data")) as [Buffer];
    expect(answer.toString()).toContain("GET /kept");
    kept.destroy();
  });

  test("in the clear there is no certificate to replace", async () => {
    const { listener } = await open();
    const { pair } = await pairOf();
    expect(() => listener.useCertificate(pair)).toThrow("no certificate");
  });
});

describe("certificate files", () => {
  const files = (): { readonly cert: string; readonly key: string } => ({
    cert: join(folder, "cert.pem"),
    key: join(folder, "key.pem"),
  });
  const write = async ({ cert, key }: Pick<TestPair, "cert" | "key">): Promise<void> => {
    await writeFile(files().cert, cert);
    await writeFile(files().key, key);
  };

  test("one without the other is refused, and neither is plain HTTP", () => {
    expect(pairFilesOf({ tlsCert: "", tlsKey: "" })).toBeNull();
    expect(() => pairFilesOf({ tlsCert: "a", tlsKey: "" })).toThrow("--tls-cert needs --tls-key");
    expect(() => pairFilesOf({ tlsCert: "", tlsKey: "a" })).toThrow("--tls-key needs --tls-cert");
  });

  test.each(["ec", "rsa"] as const)("a pair (%s) with its chain is read", async (algorithm) => {
    const made = await authority.issue({ algorithm });
    await write({ cert: made.cert + authority.cert, key: made.key });
    expect(await readPair(files())).toEqual({
      cert: made.cert + authority.cert,
      key: made.key,
      expiresAt: made.expiresAt,
      looks: expect.any(String) as string,
    });
  });

  const encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
  test.each<[string, RegExp, (pair: TestPair) => Promise<Pick<TestPair, "cert" | "key">>]>([
    [
      "another's key",
      /--tls-key \S+ does not belong to/,
      async ({ cert }) => ({ cert, key: (await authority.issue()).key }),
    ],
    [
      "the chain before the certificate",
      /does not belong to the first certificate/,
      async ({ cert, key }) => ({ cert: authority.cert + cert, key }),
    ],
    ["an encrypted key", /--tls-key \S+ is encrypted/, async ({ cert }) => ({ cert, key: encrypted })],
    ["a key that is none", /--tls-key \S+ holds no private key/, async ({ cert }) => ({ cert, key: cert })],
    [
      "a damaged key",
      /--tls-key \S+ holds no private key/,
      async ({ cert, key }) => ({ cert, key: key.replace(/.{40}\n-----END/, "\n-----END") }),
    ],
    [
      "a certificate that is none",
      /--tls-cert \S+ holds no certificate/,
      async ({ key }) => ({ cert: key, key }),
    ],
    ["nothing", /holds no certificate/, async ({ key }) => ({ cert: "", key })],
    [
      "one that has expired",
      /--tls-cert \S+ has expired on \d{4}-\d\d-\d\d$/,
      () => authority.issue({ to: -1_000 }),
    ],
    ["one of the future", /is not valid before \d{4}/, () => authority.issue({ from: DAY_MS })],
    ["a key too short", /cannot be used: .*key too small/, () => authority.issue({ algorithm: "short rsa" })],
    [
      "a file that is far too large",
      /too large/,
      async ({ cert, key }) => ({ cert: cert.repeat(4_000), key }),
    ],
  ])("%s is refused in one line, without the key", async (_name, expected, change) => {
    const good = await authority.issue();
    const { cert, key } = await change(good);
    await write({ cert, key });
    const error = await readPair(files()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Error);
    const { message } = error as Error;
    expect(message).toMatch(expected);
    expect(message).not.toContain("\n");
    for (const line of key.split("\n").filter((one) => one.length > 20)) expect(message).not.toContain(line);
  });

  test("files that cannot be read are told by their path and why", async () => {
    await write(await authority.issue());
    await unlink(files().key);
    await expect(readPair(files())).rejects.toThrow(
      `--tls-key ${files().key}: no such file or folder (ENOENT)`,
    );
    await expect(readPair({ cert: folder, key: files().key })).rejects.toThrow(
      /--tls-cert .* folder \(EISDIR\)/,
    );
  });

  /** Keeps the pair that is in the files, and hears which ones it wants used. */
  const keep = async (options: Partial<KeepOptions> = {}) => {
    const used: Pair[] = [];
    const { lines, log } = captured();
    const kept = keepPair(files(), await readPair(files()), {
      use: (pair) => void used.push(pair),
      log,
      lookEveryMs: 10,
      ...options,
    });
    onTestFinished(() => kept.close());
    return { kept, used, lines };
  };

  test("files written anew, replaced by rename, or behind a link that moves, are noticed", async () => {
    const issue = () => authority.issue();
    await write(await issue());
    const { kept, used, lines } = await keep();
    const has = (pair: TestPair) =>
      vi.waitFor(() => expect(used.at(-1)?.cert).toBe(pair.cert), { timeout: 20_000 });

    const second = await issue();
    await write(second);
    await has(second);

    const third = await issue();
    for (const [path, text] of [
      [files().cert, third.cert],
      [files().key, third.key],
    ] as const) {
      await writeFile(`${path}.new`, text);
      await rename(`${path}.new`, path);
    }
    await has(third);

    const fourth = await issue();
    for (const [path, text] of [
      [files().cert, fourth.cert],
      [files().key, fourth.key],
    ] as const) {
      await writeFile(`${path}.4`, text);
      await symlink(`${path}.4`, `${path}.link`);
      await rename(`${path}.link`, path);
    }
    await has(fourth);
    expect(kept.expiresAt()).toBe(fourth.expiresAt);
    expect(lines.filter(({ message }) => message === "certificate reloaded").length).toBeGreaterThanOrEqual(
      3,
    );
  });

  test("a bad pair is told once and changes nothing, until a good one comes", async () => {
    const good = await authority.issue();
    await write(good);
    const { kept, used, lines } = await keep();
    const other = await authority.issue();
    await writeFile(`${files().key}.new`, other.key);
    await rename(`${files().key}.new`, files().key);
    await vi.waitFor(() => expect(lines.map(({ level }) => level)).toContain("error"), { timeout: 20_000 });
    expect(used).toEqual([]);
    expect(kept.expiresAt()).toBe(good.expiresAt);
    // In one step: half a file would be another bad pair.
    await writeFile(`${files().cert}.new`, other.cert);
    await rename(`${files().cert}.new`, files().cert);
    await vi.waitFor(() => expect(used.at(-1)?.cert).toBe(other.cert), { timeout: 20_000 });
    expect(lines.filter(({ level }) => level === "error")).toMatchObject([
      { message: "certificate not reloaded: the old one stays in use" },
    ]);
    expect(JSON.stringify(lines)).not.toContain("PRIVATE KEY");
  });

  test("when asked, files are read at once, each time", async () => {
    await write(await authority.issue());
    const { kept, used } = await keep({ lookEveryMs: 3_600_000 });
    await Promise.all([kept.reload(), kept.reload()]);
    expect(used).toHaveLength(2);
    await unlink(files().cert);
    await kept.reload();
    expect(used).toHaveLength(2);
  });

  test("who expires within 30 days is warned about at the start and every day after", async () => {
    await write(await authority.issue({ to: 29.5 * DAY_MS }));
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date"] });
    onTestFinished(() => void vi.useRealTimers());
    const { lines } = await keep({ lookEveryMs: DAY_MS });
    expect(lines).toMatchObject([
      { level: "warn", message: "certificate expires soon", fields: { days: 29 } },
    ]);
    vi.advanceTimersByTime(2 * DAY_MS);
    expect(lines.map(({ fields }) => fields["days"])).toEqual([29, 28, 27]);
    vi.advanceTimersByTime(28 * DAY_MS);
    expect(lines.at(-1)).toMatchObject({
      level: "error",
      message: "certificate has expired: clients refuse this server",
    });
  });

  test("who expires later is not", async () => {
    await write(await authority.issue({ to: 31 * DAY_MS }));
    const { lines } = await keep();
    expect(lines).toEqual([]);
  });
});
