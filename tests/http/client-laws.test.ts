/**
 * The laws of the client package, against the real app: pages show every row once, waits keep their bounds, one token
 * serves all, and a transfer that breaks anywhere ends with the same bytes.
 */

import type { RetryOptions } from "@docyard/client";
import { DocyardApiError, sha256 as clientSha256 } from "@docyard/client";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientWorld, Fate } from "./client-kit.ts";
import { connectStudio, failure, fates, FREE, openClientWorld, streamOf } from "./client-kit.ts";
import { openStudioHarness } from "./studio-harness.ts";
import { sha256, someBytes } from "./target.ts";

const FULL = process.env["DOCYARD_TEST_FULL"] === "1";
const runs = (usual: number): { numRuns: number } => ({ numRuns: FULL ? usual * 10 : usual });

let world: ClientWorld;
beforeAll(async () => {
  world = await openClientWorld();
});
afterAll(() => world.harness.close());

async function filled(count: number): Promise<{ dockId: string; add: () => Promise<string> }> {
  const dockId = await world.harness.operator.createDock();
  const dock = world.connect().client.dock(dockId);
  const add = async (): Promise<string> => (await dock.upload(someBytes(8), { filename: "a.bin" })).id;
  for (let i = 0; i < count; i++) await add();
  return { dockId, add };
}

describe("paging", () => {
  test("a walk shows every row once, newest first, while others are added", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 23 }),
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.boolean(), { maxLength: 6 }),
        async (count, limit, arrivals) => {
          const { dockId, add } = await filled(count);
          const dock = world.connect().client.dock(dockId);
          const before = (await dock.list({ limit: 1000 })).data.map(({ id }) => id);
          expect(before).toHaveLength(count);
          const shown: string[] = [];
          for await (const { id } of dock.artifacts({ limit })) {
            shown.push(id);
            world.harness.clock.advance(1);
            if (arrivals.pop() === true) await add();
          }
          expect(shown).toEqual(before);
        },
      ),
      runs(12),
    );
  });

  test("Studio's walk by page numbers does, too", async () => {
    const target = await openStudioHarness({ settings: FREE });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 23 }),
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.boolean(), { maxLength: 6 }),
        async (count, limit, arrivals) => {
          const { studio } = await connectStudio(target);
          const add = (): Promise<unknown> =>
            studio.create({ name: "a", type: "video", url: "https://cdn.example.com/a.mp4" });
          for (let i = 0; i < count; i++) await add();
          const before = (await studio.list({ limit: 1000 })).data.map(({ id }) => id);
          expect(before).toHaveLength(count);
          const shown: string[] = [];
          for await (const { id } of studio.artifacts({ limit })) {
            shown.push(id);
            if (arrivals.pop() === true) await add();
          }
          expect(shown).toEqual(before);
        },
      ),
      runs(12),
    );
    await target.close();
  });
});

interface Trouble {
  readonly fate: Fate;
  /** What the answer asks for. */
  readonly askedMs: number;
}

const NOW = Date.UTC(2026, 2, 1, 12);
const trouble: fc.Arbitrary<Trouble> = fc.oneof(
  fc.constant<Trouble>({ fate: "refused", askedMs: 0 }),
  fc.constant<Trouble>({ fate: "lost", askedMs: 0 }),
  fc.constantFrom(429, 502, 503, 504).map((status): Trouble => ({ fate: { status }, askedMs: 0 })),
  fc
    .record({
      seconds: fc.integer({ min: 0, max: 90 }),
      form: fc.constantFrom("seconds", "date", "skewed date"),
    })
    .map(({ seconds, form }): Trouble => {
      // A server whose clock is an hour behind says so in Date.
      const sent = NOW - (form === "skewed date" ? 3_600_000 : 0);
      return {
        fate: {
          status: 429,
          headers: {
            "Retry-After": form === "seconds" ? `${seconds}` : new Date(sent + seconds * 1_000).toUTCString(),
            ...(form === "skewed date" ? { Date: new Date(sent).toUTCString() } : {}),
          },
        },
        askedMs: seconds * 1_000,
      };
    }),
);

describe("retries", () => {
  test("tries and waits keep their bounds, and no wait is shorter than the server asked for", async () => {
    const dock = await filled(1);
    await fc.assert(
      fc.asyncProperty(
        fc.array(trouble, { maxLength: 6 }),
        fc.record({
          attempts: fc.integer({ min: 1, max: 5 }),
          baseMs: fc.integer({ min: 0, max: 1_000 }),
          maxMs: fc.integer({ min: 0, max: 3_000 }),
          retryAfterMaxMs: fc.integer({ min: 0, max: 90_000 }),
        }),
        fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
        async (troubles, policy, chances) => {
          const retry: RetryOptions = { ...policy, random: () => chances.next().value as number };
          const isList = ({ method }: { method: string }): boolean => method === "GET";
          const { client, net, waits } = world.connect(
            { retry, now: () => NOW },
            fates(
              troubles.map(({ fate }) => fate),
              isList,
            ),
          );
          const outcome = await client
            .dock(dock.dockId)
            .list()
            .catch((error: unknown) => error);

          // How far the policy lets it come.
          const tooLong = troubles.findIndex(({ askedMs }) => askedMs > policy.retryAfterMaxMs);
          const last = Math.min(troubles.length, policy.attempts - 1, tooLong < 0 ? Infinity : tooLong);
          expect(net.count("GET")).toBe(last + 1);
          expect(waits).toHaveLength(last);
          for (const [index, wait] of waits.entries()) {
            const { askedMs } = troubles[index]!;
            const jitter = Math.min(policy.maxMs, policy.baseMs * 2 ** index);
            expect(wait).toBeGreaterThanOrEqual(askedMs);
            expect(wait).toBeLessThanOrEqual(askedMs + jitter);
          }
          if (last === troubles.length) expect(outcome).toMatchObject({ meta: { total: 1 } });
          else expect(outcome).toBeInstanceOf(DocyardApiError);
        },
      ),
      runs(150),
    );
  });

  test("an upload through any bearable trouble is stored once, whole", async () => {
    const fate = fc.constantFrom<Fate>("ok", "refused", "lost", { status: 503 }, { status: 502 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fate, { maxLength: 12 }),
        fc.uint8Array({ maxLength: 5_000 }),
        fc.constantFrom("bytes", "blob", "function"),
        async (list, bytes, kind) => {
          const dockId = await world.harness.operator.createDock();
          const { client } = world.connect({ retry: { attempts: 13 } }, fates(list));
          const dock = client.dock(dockId);
          const source =
            kind === "bytes"
              ? bytes
              : kind === "blob"
                ? new Blob([bytes])
                : () => streamOf(bytes, [7, 1_000]);
          const stored = await dock.upload(source, { filename: "a.bin" });
          expect(stored).toMatchObject({ size: bytes.length, hash: `sha256:${sha256(bytes)}` });
          expect((await dock.list()).data.map(({ id }) => id)).toEqual([stored.id]);
          expect(await (await dock.download(stored)).bytes()).toEqual(bytes);
        },
      ),
      runs(40),
    );
  });
});

test("however many call at once, each token is asked for once: first, near its end, and when it is refused", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 30 }), async (callers) => {
      let now = world.harness.clock.now();
      let revoked: string | null = null;
      const { dock, net } = world.connect({ now: () => now }, (request) =>
        revoked !== null && request.headers.get("authorization") === revoked ? { status: 401 } : "ok",
      );
      const all = (): Promise<unknown> =>
        Promise.all(Array.from({ length: callers }, () => dock.list({ limit: 1 })));
      const tokens = (): number => net.count("POST", /oauth/);
      await all();
      await all();
      expect(tokens()).toBe(1);
      now += 3_600_000 - 60_000;
      await all();
      expect(tokens()).toBe(2);
      const { headers } = net.seen.findLast(({ method }) => method === "GET")!;
      revoked = headers.get("authorization");
      await all();
      expect(tokens()).toBe(3);
      await all();
      expect(tokens()).toBe(3);
    }),
    runs(10),
  );
});

describe("downloads", () => {
  const cutting = (cuts: readonly Fate[]) => fates(cuts, ({ target }) => target.startsWith("/v1/blobs/"));

  test("a body that breaks at any byte, any way, comes out the same", async () => {
    // More than a piece of the server's, so that several chunks travel.
    const bytes = someBytes(1024 ** 2 + 4_321);
    const { id } = await world.connect().dock.upload(bytes, { filename: "a.bin" });
    const cut = fc.record({
      cutAt: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: bytes.length })),
      how: fc.constantFrom("error" as const, "end" as const),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(cut, { maxLength: 6 }),
        fc.option(fc.tuple(fc.nat(bytes.length - 1), fc.nat(bytes.length - 1)), { nil: null }),
        fc.constantFrom("bytes", "stream"),
        async (cuts, ends, how) => {
          const { dock } = world.connect({}, cutting(cuts));
          const [start, end] = ends === null ? [0, bytes.length] : [Math.min(...ends), Math.max(...ends) + 1];
          let loaded = 0;
          const download = await dock.download(id, {
            ...(ends === null ? {} : { range: { start, end } }),
            onProgress: (progress) => {
              expect(progress.loaded).toBeGreaterThanOrEqual(loaded);
              ({ loaded } = progress);
            },
          });
          expect(download.size).toBe(end - start);
          const got =
            how === "bytes"
              ? await download.bytes()
              : new Uint8Array(await new Response(download.stream).arrayBuffer());
          expect(sha256(got)).toBe(sha256(bytes.subarray(start, end)));
          expect(loaded).toBe(end - start);
        },
      ),
      runs(40),
    );
  });

  test("a body that breaks more often than allowed fails, and is asked for no oftener", async () => {
    const { id } = await world.connect().dock.upload(someBytes(100), { filename: "a.bin" });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 4 }), async (resumes) => {
        const broken = Array.from({ length: 50 }, () => ({ cutAt: 1, how: "end" as const }));
        const { dock, net } = world.connect({}, cutting(broken));
        const download = await dock.download(id, { resumes });
        expect(await failure(download.bytes())).toMatchObject({ name: "DocyardApiError", code: "network" });
        expect(net.count("GET", /^\/v1\/blobs/)).toBe(1 + resumes);
      }),
      runs(5),
    );
  });
});

test("SHA-256 of a stream is that of its bytes, however they are cut into chunks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 1_000 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 }),
      async (bytes, lengths) => {
        const expected = sha256(bytes);
        expect(await clientSha256(streamOf(bytes, lengths))).toBe(expected);
        expect(await clientSha256(bytes)).toBe(expected);
        expect(await clientSha256(new Blob([bytes]))).toBe(expected);
      },
    ),
    runs(200),
  );
  // The bit count needs more than 32 bits.
  const large = FULL ? 600 * 1024 ** 2 : 1024 ** 2;
  const block = someBytes(1024 ** 2);
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  let left = large / block.length;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left-- <= 0) return controller.close();
      hash.update(block);
      controller.enqueue(block);
    },
  });
  expect(await clientSha256(stream)).toBe(hash.digest("hex"));
});
