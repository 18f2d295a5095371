/**
 * Signed URLs through rotations of keys: on the stores that serve themselves, on replicas with one set of keys, by a
 * clock that is turned. What a signature covers is in blob-signed-url.test.ts.
 */

import type { DiskBlobsOptions } from "@docyard/adapters/blob/disk";
import type { MemoryBlobsOptions } from "@docyard/adapters/blob/memory";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { BlobHost, BlobStore, Provisioning } from "@docyard/core";
import {
  createProvisioning,
  isDocyardError,
  SIGNING_KEYS_AGE_MAX_MS,
  SIGNING_KEYS_STALE_MAX_MS,
  urlSecretOf,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { createUrls } from "../../packages/adapters/src/blob/urls.ts";
import { openDisk } from "./blob-harness.ts";

const NOON = Date.UTC(2026, 2, 1, 12);
const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
const BASE = "https://files.example";
const KEY = "docks/dock_default/artifacts/2026-03-01/12/01hzx";
const host: BlobHost = { admit: async () => {}, corrupt: async () => {} };

/** Keys in a store and a clock, for any number of blob stores. */
interface Shared {
  now: number;
  readonly provisioning: Provisioning;
  readonly secret: () => Promise<readonly Uint8Array[]>;
  reads: number;
  isAway: boolean;
}

function share(): Shared {
  const { accounts } = memoryStore();
  const provisioning = createProvisioning(accounts, { now: () => shared.now });
  const shared: Shared = {
    now: NOON,
    provisioning,
    reads: 0,
    isAway: false,
    async secret() {
      shared.reads++;
      if (shared.isAway) throw new Error("the store is away");
      return (await provisioning.serverKeys("url")).map(urlSecretOf);
    },
  };
  return shared;
}

type Options = Pick<DiskBlobsOptions & MemoryBlobsOptions, "secret" | "now">;

/** By name: what opens one. Each is closed by the test's end. */
const STORES: Readonly<Record<string, (options: Options) => Promise<BlobStore>>> = {
  async memory(options) {
    const blobs = memoryBlobs({ baseUrl: BASE, ...options });
    onTestFinished(() => blobs.close());
    return blobs;
  },
  async disk(options) {
    const disk = await openDisk({ baseUrl: BASE, ...options });
    onTestFinished(() => disk.close());
    return disk.blobs;
  },
};

/** A signed PUT, as a client sends it: its status, or the code it was refused with. */
async function put(blobs: BlobStore, url: string): Promise<number | string> {
  const request = new Request(url, { method: "PUT", body: "Blood count: fine." });
  return blobs.serve!.fetch(request, host).then(
    ({ status }) => status,
    (error: unknown) => (isDocyardError(error) ? error.code : String(error)),
  );
}

describe.each(Object.keys(STORES))("%s", (name) => {
  const open = (shared: Shared): Promise<BlobStore> =>
    STORES[name]!({ secret: shared.secret, now: () => shared.now });
  const sign = async (blobs: BlobStore, shared: Shared): Promise<string> =>
    (await blobs.signPut(KEY, { expiresAt: shared.now + HOUR_MS, sizeMax: 100, artifactId: "art_1" })).url;

  test("what an older key signed goes on, and the newest signs, without a restart", async () => {
    const shared = share();
    const [a, b] = [await open(shared), await open(shared)];
    const old = await sign(a, shared);
    await shared.provisioning.rotateServerKeys();
    shared.now += SIGNING_KEYS_AGE_MAX_MS;
    const fresh = await sign(a, shared);
    for (const blobs of [a, b]) {
      expect(await put(blobs, old)).toBe(200);
      expect(await put(blobs, fresh)).toBe(200);
    }
    // Which key signed `fresh` shows when the older one is gone.
    const [newest] = await shared.secret();
    const alone = await STORES[name]!({ secret: newest!, now: () => shared.now });
    expect([await put(alone, fresh), await put(alone, old)]).toEqual([200, "permission_denied"]);
  });

  test("a replica that has not read the new key accepts what another signed with it", async () => {
    const shared = share();
    const a = await open(shared);
    expect(await put(a, await sign(a, shared))).toBe(200);
    await shared.provisioning.rotateServerKeys();
    const b = await open(shared);
    expect(await put(a, await sign(b, shared))).toBe(200);
  });

  test("what a revoked key signed is refused within the time that is promised, and its successor's is not", async () => {
    const shared = share();
    const blobs = await open(shared);
    const old = await sign(blobs, shared);
    await shared.provisioning.rotateServerKeys({ revoke: true });
    expect(await put(blobs, old)).toBe(200);
    shared.now += SIGNING_KEYS_AGE_MAX_MS;
    expect(await put(blobs, old)).toBe("permission_denied");
    expect(await put(blobs, await sign(blobs, shared))).toBe(200);
  });

  test("a server that was idle signs with a key that is in force", async () => {
    const shared = share();
    const [a, b] = [await open(shared), await open(shared)];
    await sign(a, shared);
    await shared.provisioning.rotateServerKeys({ revoke: true });
    shared.now += HOUR_MS;
    expect(await put(b, await sign(a, shared))).toBe(200);
  });

  test("forged URLs cause one read a second, and none where the key never changes", async () => {
    const shared = share();
    const blobs = await open(shared);
    const forged = (await sign(blobs, shared)).replace(/signature=./, "signature=_");
    const before = shared.reads;
    for (let i = 0; i < 20; i++) expect(await put(blobs, forged)).toBe("permission_denied");
    expect(shared.reads).toBe(before + 1);
    shared.now += SECOND_MS;
    for (let i = 0; i < 20; i++) expect(await put(blobs, forged)).toBe("permission_denied");
    expect(shared.reads).toBe(before + 2);
    const fixed = await STORES[name]!({ secret: new Uint8Array(32).fill(7), now: () => shared.now });
    expect(await put(fixed, forged)).toBe("permission_denied");
  });

  test("while the store is away known keys sign and redeem, for five minutes", async () => {
    const shared = share();
    const blobs = await open(shared);
    const url = await sign(blobs, shared);
    shared.isAway = true;
    shared.now = NOON + SIGNING_KEYS_STALE_MAX_MS - 1;
    expect(await put(blobs, url)).toBe(200);
    expect(await put(blobs, await sign(blobs, shared))).toBe(200);
    shared.now += 1;
    expect(await put(blobs, url)).toBe("Error: the store is away");
    await expect(sign(blobs, shared)).rejects.toThrow("the store is away");
    shared.isAway = false;
    expect(await put(blobs, url)).toBe(200);
  });
});

test("a folder does not open while there is nothing to sign with", async () => {
  const shared = share();
  shared.isAway = true;
  await expect(openDisk({ secret: shared.secret })).rejects.toThrow("the store is away");
  const short = async (): Promise<readonly Uint8Array[]> => [new Uint8Array(15)];
  await expect(openDisk({ secret: short })).rejects.toThrow("at least 16 bytes");
});

describe("any number of keys", () => {
  const keysOf = (names: readonly number[]): Uint8Array[] =>
    names.map((name) => new Uint8Array(32).fill(name));
  const urlsOf = (names: readonly number[]): ReturnType<typeof createUrls> =>
    createUrls({ baseUrl: BASE, secret: async () => keysOf(names), now: () => NOON });
  const grant = { expiresAt: NOON + HOUR_MS, sizeMax: 1, artifactId: "art_1" };

  test("law: a URL is redeemed if and only if its key is among those in force", async () => {
    const names = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(names, names, async (signing, redeeming) => {
        const { url } = await urlsOf(signing).signPut(KEY, grant);
        const redeemed = await urlsOf(redeeming)
          .redeem("PUT", url)
          .then(
            (ticket) => ticket.grant.key,
            (error: Error) => error.message,
          );
        const isKnown = redeeming.includes(signing[0]!);
        expect(redeemed).toBe(
          isKnown
            ? KEY
            : "The signature of this URL is not valid: use it whole, with PUT to upload and GET to download",
        );
      }),
    );
  });

  test("an expired URL of an older key is told that it has expired", async () => {
    const { url } = await urlsOf([1]).signPut(KEY, { ...grant, expiresAt: NOON });
    await expect(urlsOf([2, 1]).redeem("PUT", url)).rejects.toThrow("This upload URL has expired");
    await expect(urlsOf([2, 3]).redeem("PUT", url)).rejects.toThrow(
      "The signature of this URL is not valid: use it whole, with PUT to upload and GET to download",
    );
  });

  test("no refusal shows a signature", async () => {
    const { url } = await urlsOf([1]).signPut(KEY, grant);
    for (const wrong of [`${url}0`, url.replace("max=1", "max=2"), url.replace("art_1", "art_2")]) {
      const refusal: unknown = await urlsOf([1])
        .redeem("PUT", wrong)
        .catch((error: unknown) => error);
      expect(refusal).toMatchObject({ code: "permission_denied" });
      expect((refusal as Error).message).not.toMatch(/[0-9a-f]{16}/i);
    }
  });

  test("known keys are not waited for", async () => {
    const urls = urlsOf([1]);
    expect(urls.signPut(KEY, grant)).toBeInstanceOf(Promise);
    await urls.ready();
    expect(urls.signPut(KEY, grant)).toMatchObject({ method: "PUT" });
    const fixed = createUrls({ baseUrl: BASE, secret: keysOf([1])[0]!, now: () => NOON });
    expect(fixed.signPut(KEY, grant)).toEqual(urls.signPut(KEY, grant));
  });
});
