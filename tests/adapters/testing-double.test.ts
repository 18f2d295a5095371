/**
 * The test double's own promises: the same seed makes the same world, time moves when it is told and everything due
 * happens on the way, and what is fetched comes from a table. Its faults are in testing-faults.test.ts.
 */

import type { TestDouble } from "@docyard/adapters/testing";
import { testDouble } from "@docyard/adapters/testing";
import { createApp } from "@docyard/server";
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { clientOf } from "./testing-kit.ts";

const START = Date.UTC(2026, 0, 1, 12);
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

const step = fc.oneof(
  fc.integer({ min: 0, max: 5 }).map((n) => ({ kind: "upload", text: `text ${n}` }) as const),
  fc.constant({ kind: "abandon" } as const),
  fc.constant({ kind: "studio" } as const),
  fc.integer({ min: 1, max: 3 }).map((count) => ({ kind: "seed", count }) as const),
  fc.integer({ min: 1, max: 2 * HOUR_MS }).map((ms) => ({ kind: "advance", ms }) as const),
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

async function play(double: TestDouble, steps: readonly Step[], pieces = 1): Promise<void> {
  let client = clientOf(double);
  for (const one of steps) {
    if (one.kind === "upload") await client.upload(one.text);
    else if (one.kind === "abandon") await client.put((await client.create()).uploadUrl, "left behind");
    else if (one.kind === "studio")
      await client.studio({ name: "clip", type: "video", url: "https://cdn.example.com/a.mp4" });
    else if (one.kind === "seed") await double.seed({ artifacts: one.count });
    else {
      const piece = Math.floor(one.ms / pieces);
      for (let i = 1; i < pieces; i++) await double.advance(piece);
      await double.advance(one.ms - piece * (pieces - 1));
      client = clientOf({ ...double, token: await double.issueToken() });
    }
  }
}

const SOURCES = { "https://cdn.example.com/a.mp4": "video:3000:clip" };

describe("a seed", () => {
  test("decides everything: the same doings end in the same rows, events and bytes", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(step, { maxLength: 8 }), async (seed, steps) => {
        const ends = [];
        for (let run = 0; run < 2; run++) {
          await using double = await testDouble(createApp, { seed, sources: SOURCES, media: "text" });
          await play(double, steps);
          const { uploadUrl, uploadId } = await clientOf({
            ...double,
            token: await double.issueToken(),
          }).create();
          const { dock, client, key } = double;
          ends.push({ dock, client, key, uploadUrl, uploadId, all: await double.snapshot() });
        }
        expect(ends[0]).toEqual(ends[1]);
      }),
      { numRuns: 15 },
    );
  });

  test("other seeds make other ids, secrets and signatures", async () => {
    const seen = new Set<unknown>();
    for (const seed of [1, 2, "1 ", -1, 0.5]) {
      await using double = await testDouble(createApp, { seed });
      const { uploadUrl } = await clientOf(double).create();
      for (const one of [double.client.id, double.client.clientSecret, double.key.apiKey, double.token])
        seen.add(one);
      seen.add(new URL(uploadUrl).search);
    }
    expect(seen.size).toBe(5 * 5);
  });

  test("credentials look as live ones do", async () => {
    await using double = await testDouble(createApp);
    expect(double.client.clientId).toMatch(/^dyc_[a-z0-9_]+$/);
    expect(double.client.clientSecret).toMatch(/^dys_live_[A-Za-z0-9]{43}$/);
    expect(double.key.apiKey).toMatch(/^dk_live_[A-Za-z0-9]{43}$/);
    expect(double.token).toMatch(/^dyt_live_/);
    expect(double.dock.id).toBe("dock_default");
  });
});

describe("time", () => {
  test("stands still until it is told, and moves by exactly that", async () => {
    await using double = await testDouble(createApp);
    expect(double.now()).toBe(START);
    await clientOf(double).upload("text");
    expect(double.now()).toBe(START);
    for (const [span, ms] of [
      [1, 1],
      ["90s", 90_000],
      ["1h30m", 5_400_000],
      ["1d2h3m4s5ms", 93_784_005],
      [0, 0],
    ] as const) {
      const before = double.now();
      await double.advance(span);
      expect(double.now() - before).toBe(ms);
    }
  });

  test.each([-1, 0.5, Number.NaN, "", "1", "1 h", "h", "1h 30m", "9".repeat(16)])(
    "%j is no span of time",
    async (span) => {
      await using double = await testDouble(createApp);
      expect(() => double.advance(span)).toThrow(TypeError);
    },
  );

  test("passes the same in one piece and in many", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 6 }),
        fc.integer({ min: 2, max: 5 }),
        async (steps, pieces) => {
          const ends = [];
          for (const count of [1, pieces]) {
            await using double = await testDouble(createApp, { sources: SOURCES, media: "text" });
            await play(double, steps, count);
            ends.push(await double.snapshot());
          }
          expect(ends[0]).toEqual(ends[1]);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("passes the same whether sweeps that can find nothing are left out or not", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 6 }), async (steps) => {
        const ends = [];
        for (const isWatched of [false, true]) {
          await using double = await testDouble(createApp, { sources: SOURCES, media: "text" });
          // Somebody waits for a call that never comes: no sweep is left out then.
          if (isWatched) double.faults.fail("blobs.space");
          await play(double, [...steps, { kind: "advance", ms: 26 * HOUR_MS }]);
          ends.push(await double.snapshot());
        }
        expect(ends[0]).toEqual(ends[1]);
      }),
      { numRuns: 4 },
    );
  });

  test("an upload that nobody completes fails when its window ends, and its bytes go after the grace period", async () => {
    await using double = await testDouble(createApp);
    const client = clientOf(double);
    const { id, uploadUrl } = await client.create();
    await client.put(uploadUrl, "left behind");
    await double.advance("23h59m59s");
    expect(await double.store.artifacts.get({ id })).toMatchObject({ status: "created" });
    await double.advance("31s");
    expect(await double.store.artifacts.get({ id })).toMatchObject({ status: "upload_failed" });
    expect((await double.snapshot()).blobs).toHaveLength(1);
    await double.advance("1h30s");
    expect((await double.snapshot()).blobs).toEqual([]);
    expect((await double.events()).map(({ type, at }) => [type, at - START])).toEqual([
      ["artifact.created", 0],
      ["artifact.failed", 24 * HOUR_MS],
      ["artifact.cleaned", 25 * HOUR_MS],
    ]);
  });

  test("retention is applied each hour", async () => {
    await using double = await testDouble(createApp);
    await double.provisioning.setRetention(double.dock.id, [{ afterMs: 90 * MINUTE_MS }]);
    await double.seed({ artifacts: 3 });
    const left = async (): Promise<number> => (await double.store.artifacts.usage(double.dock.id)).artifacts;
    await double.advance("1h59m");
    expect(await left()).toBe(3);
    await double.advance("1m");
    expect(await left()).toBe(0);
  });

  test("needs no timers: everything works while the test runner's are fake", async () => {
    vi.useFakeTimers();
    try {
      await using double = await testDouble(createApp, { sources: SOURCES, media: "text" });
      const client = clientOf(double);
      await client.upload("text");
      const { id } = await client.studio({ name: "a", type: "video", url: "https://cdn.example.com/a.mp4" });
      await double.advance("1m");
      expect(await client.studioArtifact(id)).toMatchObject({ status: "upload_completed", duration: 3 });
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("fetch", () => {
  test("takes paths, URLs and requests, and serves nobody else", async () => {
    await using double = await testDouble(createApp, { url: "http://files.test/base/" });
    expect(double.url).toBe("http://files.test/base");
    // As behind a proxy that takes the public URL's path away.
    for (const to of ["http://files.test/base/v1/healthz", "/v1/healthz"])
      expect((await double.fetch(to)).status).toBe(200);
    await expect(double.fetch("http://files.test/baseless")).rejects.toThrow(TypeError);
    await clientOf(double).upload("behind a proxy");
    await using plain = await testDouble(createApp);
    const { fetch } = plain;
    for (const to of ["/v1/healthz", `${plain.url}/v1/healthz`, new URL("/v1/healthz", plain.url)])
      expect((await fetch(to)).status).toBe(200);
    expect((await fetch(new Request(`${plain.url}/v1/healthz`))).status).toBe(200);
    for (const foreign of [
      "http://docyard.test.evil.example/",
      "https://docyard.test/",
      "http://other.test/",
    ])
      await expect(fetch(foreign)).rejects.toThrow(TypeError);
  });

  test("options of the app go through its factory", async () => {
    await using double = await testDouble((parts) => createApp({ ...parts, bodyBytesMax: 300 }));
    await expect(clientOf(double).create({ filename: "a".repeat(300) })).rejects.toThrow(/413/);
  });
});

test("a double that is closed says so, whatever it is asked; closing it again is harmless", async () => {
  const double = await testDouble(createApp);
  await Promise.all([double.close(), double.close()]);
  await double.close();
  const deeds: readonly (() => Promise<unknown>)[] = [
    () => double.fetch("/v1/healthz"),
    () => double.handle(new Request(`${double.url}/v1/healthz`)),
    () => double.issueToken(),
    () => double.advance("1h"),
    () => double.work(),
    () => double.restart(),
    () => double.seed({ artifacts: 1 }),
  ];
  for (const deed of deeds) await expect(deed()).rejects.toThrow("this test double has been closed");
});

describe("seed", () => {
  test("adds so many, or these, and they can be listed and downloaded", async () => {
    await using double = await testDouble(createApp);
    const client = clientOf(double);
    expect(await double.seed({ artifacts: 100 })).toHaveLength(100);
    const [named] = await double.seed({
      artifacts: [
        { filename: "a.pdf", contentType: "application/pdf", metadata: { ward: 7 }, bytes: "%PDF" },
      ],
    });
    expect(named).toMatchObject({
      filename: "a.pdf",
      size: 4,
      status: "upload_completed",
      metadata: { ward: 7 },
    });
    const [first] = await client.list();
    expect(first).toMatchObject({ filename: "a.pdf", size: 4 });
    expect(await (await double.fetch(String(first?.["downloadUrl"]))).text()).toBe("%PDF");
    expect(await double.store.artifacts.usage(double.dock.id)).toMatchObject({ artifacts: 101, open: 0 });
    // Again: other bytes, other artifacts.
    await double.seed({ artifacts: 2 });
    expect(await double.store.artifacts.usage(double.dock.id)).toMatchObject({ artifacts: 103 });
  });

  test("finds equal bytes as duplicates, as a client's upload would", async () => {
    await using double = await testDouble(createApp);
    const [one, two] = await double.seed({ artifacts: [{ bytes: "same" }, { bytes: "same" }] });
    expect(two?.id).toBe(one?.id);
  });
});

describe("Studio", () => {
  let double: TestDouble;
  afterEach(() => double.close());

  const finish = async (body: object): Promise<Record<string, unknown>> => {
    const { id } = await clientOf(double).studio({ name: "n", type: "video", ...body });
    await double.work();
    return clientOf(double).studioArtifact(id);
  };

  test("work does what waits, and nothing before", async () => {
    double = await testDouble(createApp, { sources: SOURCES, media: "text" });
    const client = clientOf(double);
    const { id } = await client.studio({ name: "n", type: "video", url: "https://cdn.example.com/a.mp4" });
    expect(await client.studioArtifact(id)).toMatchObject({ status: "created" });
    await double.work();
    expect(await client.studioArtifact(id)).toMatchObject({ status: "upload_completed", duration: 3 });
  });

  test("an origin that comes back is asked again while time passes", async () => {
    double = await testDouble(createApp, { media: "text" });
    let asked = 0;
    double.sources.set("https://cdn.example.com/slow.mp4", () =>
      ++asked < 3 ? new Response(null, { status: 503 }) : new Response("video:5000:x"),
    );
    const { id } = await clientOf(double).studio({
      name: "n",
      type: "video",
      url: "https://cdn.example.com/slow.mp4",
    });
    await double.work();
    expect(asked).toBe(1);
    await double.advance("30s");
    expect(asked).toBe(3);
    expect(await clientOf(double).studioArtifact(id)).toMatchObject({
      status: "upload_completed",
      duration: 5,
    });
  });

  test.each([
    ["not in the table", "https://cdn.example.com/gone.mp4", /404/],
    ["a private address", "http://10.0.0.7/a.mp4", /not an address/],
    ["this machine", "http://localhost/a.mp4", /not an address/],
    ["a link-local address", "http://[fe80::1]/a.mp4", /not an address/],
    ["another port", "https://cdn.example.com:8443/a.mp4", /Port 8443/],
    ["too much", "https://cdn.example.com/large.mp4", /offers 99 bytes/],
    ["too much, unannounced", "https://cdn.example.com/endless.mp4", /sends more/],
  ])("refuses as live: %s", async (_name, url, message) => {
    double = await testDouble(createApp, {
      media: "text",
      settings: { sizeMax: 50 },
      sources: {
        "http://10.0.0.7/a.mp4": "video:1:x",
        "http://localhost/a.mp4": "video:1:x",
        "https://cdn.example.com/large.mp4": new Uint8Array(99),
        "https://cdn.example.com/endless.mp4": () => new Response(new Blob([new Uint8Array(99)]).stream()),
      },
    });
    expect(await finish({ url })).toMatchObject({
      status: "upload_failed",
      errorMessage: expect.stringMatching(message) as string,
    });
  });

  test("an s3 source is one more entry of the table, once the key has credentials", async () => {
    double = await testDouble(createApp, { media: "text", sources: { "s3://films/a.mp4": "video:2000:x" } });
    await double.provisioning.setS3Credentials(
      double.key.id,
      { accessKeyId: "id", secretAccessKey: "secret" },
      double.sealer,
    );
    expect(await finish({ s3Path: "s3://films/a.mp4" })).toMatchObject({ status: "upload_completed" });
  });

  test("real media are read by docyard's own reader, fragments joined by it", async () => {
    double = await testDouble(createApp, {
      sources: { "https://cdn.example.com/one.wav": wav(1.5), "https://cdn.example.com/two.wav": wav(0.5) },
    });
    expect(await finish({ type: "audio", url: "https://cdn.example.com/one.wav" })).toMatchObject({
      status: "upload_completed",
      duration: 1.5,
    });
    expect(
      await finish({
        type: "audio",
        fragments: [
          { url: "https://cdn.example.com/one.wav", startTime: 0 },
          { url: "https://cdn.example.com/two.wav", startTime: 1.5 },
        ],
      }),
    ).toMatchObject({ status: "upload_completed", duration: 2 });
    expect(await finish({ type: "audio", url: "https://cdn.example.com/one.wav#not" })).toMatchObject({
      status: "upload_failed",
    });
  });
});

/** So many seconds of silence: 8,000 samples a second of 16 bits, one channel. */
function wav(seconds: number): Uint8Array {
  const size = seconds * 16_000;
  const bytes = Buffer.alloc(44 + size);
  bytes.write("RIFF", 0, "latin1");
  bytes.writeUInt32LE(36 + size, 4);
  bytes.write("WAVEfmt ", 8, "latin1");
  for (const [at, value] of [
    [16, 16],
    [24, 8_000],
    [28, 16_000],
  ] as const)
    bytes.writeUInt32LE(value, at);
  for (const [at, value] of [
    [20, 1],
    [22, 1],
    [32, 2],
    [34, 16],
  ] as const)
    bytes.writeUInt16LE(value, at);
  bytes.write("data", 36, "latin1");
  bytes.writeUInt32LE(size, 40);
  return new Uint8Array(bytes);
}
