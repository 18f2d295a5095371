/**
 * The server's own keys: made once for all replicas, rotated by operators who may do it at once, revoked for good.
 * When a running server notices is in signing-keys.test.ts.
 */

import type { webcrypto } from "node:crypto";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { AccountStore, Provisioning, ServerKey } from "@docyard/core";
import { activeKeys, createProvisioning, urlSecretOf } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NOON } from "./rows.ts";

const PURPOSES = ["token", "url"] as const;

const purposes = fc.constantFrom<readonly ServerKey["purpose"][]>(["token"], ["url"], ["token", "url"]);
const rotations = fc.record({ purposes, revoke: fc.boolean() });

function setUp(now: () => number = () => NOON): { accounts: AccountStore; provisioning: Provisioning } {
  const { accounts } = memoryStore();
  return { accounts, provisioning: createProvisioning(accounts, { now }) };
}

/** The same accounts, each step when the scheduler lets it. */
function slow(accounts: AccountStore, scheduler: fc.Scheduler): AccountStore {
  return {
    ...accounts,
    insert: scheduler.scheduleFunction((records) => accounts.insert(records)),
    async list(kind, organizationId) {
      await scheduler.schedule(Promise.resolve(), `list ${kind}`);
      return accounts.list(kind, organizationId);
    },
    async update(kind, id, change) {
      await scheduler.schedule(Promise.resolve(), `update ${id}`);
      return accounts.update(kind, id, change);
    },
  };
}

const idsOf = (keys: readonly ServerKey[]): string[] => keys.map(({ id }) => id);
const numberOf = (id: string): number => Number(id.replace(/^\D+/, ""));

describe("a key of each purpose", () => {
  test("is one for all servers that start at once", async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const { accounts } = memoryStore();
        const shared = slow(accounts, scheduler);
        const servers = Array.from({ length: 3 }, () => createProvisioning(shared, { now: () => NOON }));
        const keys = await scheduler.waitFor(
          Promise.all(servers.flatMap((one) => [one.serverKeys("url"), one.serverKeys("token")])),
        );
        for (const purpose of PURPOSES) {
          const found = keys.filter(([key]) => key.purpose === purpose);
          expect(found).toHaveLength(3);
          expect(new Set(found.map(([key]) => key.secret)).size).toBe(1);
        }
        expect(await accounts.list("serverKey")).toHaveLength(2);
      }),
      { numRuns: 30 },
    );
  });

  test("is 32 random bytes for URLs and an Ed25519 key for tokens", async () => {
    const { provisioning } = setUp();
    const [url] = await provisioning.serverKeys("url");
    expect(url.secret).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(Buffer.from(urlSecretOf(url)).toString("base64url")).toBe(url.secret);
    const [token] = await provisioning.serverKeys("token");
    const jwk = JSON.parse(token.secret) as webcrypto.JsonWebKey;
    expect(jwk).toMatchObject({ kty: "OKP", crv: "Ed25519" });
    const key = await crypto.subtle.importKey("jwk", jwk, "Ed25519", false, ["sign"]);
    expect((await crypto.subtle.sign("Ed25519", key, new Uint8Array(8))).byteLength).toBe(64);
    const other = setUp().provisioning;
    expect((await other.serverKeys("url"))[0].secret).not.toBe(url.secret);
  });

  test("any 32 bytes are read as they were written", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const secret = Buffer.from(bytes).toString("base64url");
        const key: ServerKey = { kind: "serverKey", id: "url-1", purpose: "url", secret, createdAt: NOON };
        expect(Array.from(urlSecretOf(key))).toEqual(Array.from(bytes));
      }),
    );
  });

  test("is made where all that were there are revoked, and is a new one", async () => {
    const { accounts, provisioning } = setUp();
    const [first] = await provisioning.serverKeys("token");
    await accounts.update("serverKey", first.id, { revokedAt: NOON });
    const [second, ...rest] = await provisioning.serverKeys("token");
    expect([second.id, rest]).toEqual(["token-2", []]);
    expect(second.secret).not.toBe(first.secret);
  });
});

describe("rotation", () => {
  test("after any of them the newest key of each purpose signs, and no revoked one is in force", async () => {
    // Clocks of operators and servers differ: a rotation may come at an earlier time than the one before.
    const steps = fc.array(fc.tuple(rotations, fc.integer({ min: -5_000, max: 5_000 })), { maxLength: 14 });
    await fc.assert(
      fc.asyncProperty(steps, async (taken) => {
        let time = NOON;
        const { accounts, provisioning } = setUp(() => time);
        /** Oldest first, as they should be. */
        const active: Record<ServerKey["purpose"], string[]> = { token: [], url: [] };
        const gone = new Set<string>();
        for (const [rotation, ms] of taken) {
          time += ms;
          const { made, revoked } = await provisioning.rotateServerKeys(rotation);
          expect(made.map(({ purpose }) => purpose)).toEqual(rotation.purposes);
          const older = rotation.purposes.flatMap((purpose) => active[purpose]);
          expect(idsOf(revoked).toSorted()).toEqual(rotation.revoke ? older.toSorted() : []);
          for (const { id } of revoked) gone.add(id);
          for (const { id, purpose } of made) {
            if (rotation.revoke) active[purpose] = [];
            active[purpose].push(id);
          }
        }
        const stored = await accounts.list("serverKey");
        expect(new Set(idsOf(stored)).size).toBe(stored.length);
        expect(new Set(stored.map(({ secret }) => secret)).size).toBe(stored.length);
        for (const purpose of PURPOSES) {
          const expected = active[purpose].length === 0 ? [`${purpose}-1`] : active[purpose].toReversed();
          expect(idsOf(await provisioning.serverKeys(purpose))).toEqual(expected);
        }
        const nowStored = await accounts.list("serverKey");
        expect(
          idsOf(nowStored.filter(({ revokedAt }) => revokedAt !== undefined)).every((id) => gone.has(id)),
        ).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test("of several operators at once each adds keys of its own, and none revokes a newer one", async () => {
    const several = fc.array(rotations, { minLength: 2, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), several, fc.boolean(), async (scheduler, all, isUsed) => {
        const { accounts } = memoryStore();
        if (isUsed) await createProvisioning(accounts, { now: () => NOON }).rotateServerKeys();
        const shared = slow(accounts, scheduler);
        const operators = all.map((_, i) => createProvisioning(shared, { now: () => NOON - i * 1_000 }));
        const done = await scheduler.waitFor(
          Promise.all(operators.map((operator, i) => operator.rotateServerKeys(all[i]))),
        );
        const stored = await accounts.list("serverKey");
        const made = done.flatMap((rotated) => idsOf(rotated.made));
        expect(new Set(made).size).toBe(made.length);
        expect(stored).toHaveLength(made.length + (isUsed ? 2 : 0));
        expect(idsOf(stored)).toEqual(expect.arrayContaining(made));
        for (const purpose of PURPOSES) {
          const numbers = stored.filter((key) => key.purpose === purpose).map(({ id }) => numberOf(id));
          expect(numbers).toEqual(numbers.map((_, i) => i + 1));
          // Whoever revoked took all that were there before its own.
          const revokers = done.flatMap((rotated, i) =>
            all[i]!.revoke ? rotated.made.filter((key) => key.purpose === purpose) : [],
          );
          const first = Math.max(1, ...revokers.map(({ id }) => numberOf(id)));
          const active = activeKeys(stored, purpose).map(({ id }) => numberOf(id));
          expect(active).toEqual(numbers.filter((number) => number >= first).toReversed());
        }
      }),
      { numRuns: 60 },
    );
  });

  test("keys of earlier versions, of which nothing says that they are in force, are", async () => {
    const { accounts, provisioning } = setUp();
    const old = {
      kind: "serverKey",
      id: "url-1",
      purpose: "url",
      secret: "A".repeat(43),
      createdAt: NOON,
    } as const;
    await accounts.insert([old]);
    expect(await provisioning.serverKeys("url")).toEqual([old]);
    const { made, revoked } = await provisioning.rotateServerKeys({ purposes: ["url"] });
    expect(revoked).toEqual([]);
    expect(await provisioning.serverKeys("url")).toEqual([...made, old]);
  });

  test("counts on after nine, and past names of other makers", async () => {
    const { accounts, provisioning } = setUp();
    const strange = { kind: "serverKey", purpose: "token", secret: "{}", createdAt: NOON } as const;
    await accounts.insert([
      { ...strange, id: "token-9" },
      { ...strange, id: "my own key" },
      { ...strange, id: "url-7" },
    ]);
    expect(idsOf((await provisioning.rotateServerKeys()).made)).toEqual(["token-10", "url-8"]);
    expect(idsOf(await provisioning.serverKeys("token"))[0]).toBe("token-10");
    expect(idsOf((await provisioning.rotateServerKeys()).made)).toEqual(["token-11", "url-9"]);
    expect(idsOf(await provisioning.serverKeys("token")).slice(0, 2)).toEqual(["token-11", "token-10"]);
  });

  test("what the store refuses for another reason is told", async () => {
    const { accounts } = setUp();
    const broken = { ...accounts, insert: async () => Promise.reject(new Error("no room")) };
    await expect(createProvisioning(broken).rotateServerKeys()).rejects.toThrow("no room");
  });
});
