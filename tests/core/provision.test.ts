/**
 * Provisioning and identity: records and their secrets, servers that start at once, ids that only ever grow.
 * What the records allow is in access.test.ts; the server's own keys are in server-keys.test.ts.
 */
import { memoryStore } from "@docyard/adapters/store/memory";
import type { AccountKind, AccountStore, IdSource, Provisioning } from "@docyard/core";
import {
  createIdSource,
  createProvisioning,
  digestSecret,
  FIRST_DOCK_ID,
  FIRST_ORGANIZATION_ID,
  isDocyardError,
  newSecret,
  SCOPES,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { NOON } from "./rows.ts";

const KINDS: readonly AccountKind[] = ["organization", "dock", "client", "key", "serverKey"];

function setUp(): { accounts: AccountStore; provisioning: Provisioning } {
  const { accounts } = memoryStore();
  return { accounts, provisioning: createProvisioning(accounts, { now: () => NOON }) };
}

async function everything(accounts: AccountStore): Promise<string> {
  return JSON.stringify(await Promise.all(KINDS.map((kind) => accounts.list(kind))));
}

function codeOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => "done",
    (error: unknown) => (isDocyardError(error) ? error.code : error),
  );
}

describe("the first run", () => {
  test("makes an organisation, a dock, a client and a key, and says their secrets once", async () => {
    const { accounts, provisioning } = setUp();
    const first = (await provisioning.firstRun())!;
    expect(first.organization.id).toBe(FIRST_ORGANIZATION_ID);
    expect(first.dock).toMatchObject({ id: FIRST_DOCK_ID, organizationId: FIRST_ORGANIZATION_ID });
    expect(first.client).toMatchObject({ dockId: FIRST_DOCK_ID, scopes: SCOPES, isActive: true });
    expect(first.key).toMatchObject({ dockId: FIRST_DOCK_ID, isActive: true });
    expect(first.clientSecret).toMatch(/^dys_live_[0-9A-Za-z]{43}$/);
    expect(first.apiKey).toMatch(/^dk_live_[0-9A-Za-z]{43}$/);
    expect(first.client.secretDigest).toBe(await digestSecret(first.clientSecret));
    expect(first.key.secretDigest).toBe(await digestSecret(first.apiKey));
    expect(await provisioning.firstRun()).toBeNull();
    const stored = await everything(accounts);
    for (const secret of [first.clientSecret, first.apiKey]) {
      expect(stored).not.toContain(secret);
      expect(stored).not.toContain(secret.slice(-20));
    }
  });

  test("of several servers that start at once one makes it, whatever the order of their steps", async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 2, max: 5 }), async (scheduler, count) => {
        const { accounts } = memoryStore();
        const slow: AccountStore = {
          ...accounts,
          insert: scheduler.scheduleFunction((records) => accounts.insert(records)),
          async list(kind, organizationId) {
            await scheduler.schedule(Promise.resolve(), `list ${kind}`);
            return accounts.list(kind, organizationId);
          },
        };
        const servers = Array.from({ length: count }, () => createProvisioning(slow, { now: () => NOON }));
        const runs = await scheduler.waitFor(Promise.all(servers.map((server) => server.firstRun())));
        const winners = runs.filter((run) => run !== null);
        expect(winners).toHaveLength(1);
        for (const kind of ["organization", "dock", "client", "key"] as const) {
          expect(await accounts.list(kind)).toHaveLength(1);
        }
        expect(await accounts.list("client")).toEqual([winners[0]!.client]);
      }),
      { numRuns: 60 },
    );
  });

  test("a store that is in use is left alone", async () => {
    const { accounts, provisioning } = setUp();
    await provisioning.createOrganization("Somebody's");
    const before = await everything(accounts);
    expect(await provisioning.firstRun()).toBeNull();
    expect(await everything(accounts)).toBe(before);
  });
});

describe("records", () => {
  test("docks belong to the only organisation, or to the one that is named", async () => {
    const { provisioning } = setUp();
    expect(await codeOf(provisioning.createDock("dock_1"))).toBe("invalid_argument");
    const first = await provisioning.createOrganization("First");
    expect((await provisioning.createDock("dock_1")).organizationId).toBe(first.id);
    const second = await provisioning.createOrganization("Second");
    expect(await codeOf(provisioning.createDock("dock_2"))).toBe("invalid_argument");
    expect(await codeOf(provisioning.createDock("dock_2", { organizationId: "org_none" }))).toBe("not_found");
    const dock = await provisioning.createDock("dock_2", { organizationId: second.id, name: "Two" });
    expect(dock).toMatchObject({ id: "dock_2", name: "Two", organizationId: second.id, createdAt: NOON });
    expect(await codeOf(provisioning.createDock("dock_2", { organizationId: first.id }))).toBe(
      "already_exists",
    );
  });

  test.each(["", "a/b", "../x", "a b", "é", "_x", "x".repeat(65), "a\0"])(
    "%j cannot name a dock",
    async (id) => {
      const { provisioning } = setUp();
      await provisioning.createOrganization("Org");
      expect(await codeOf(provisioning.createDock(id))).toBe("invalid_argument");
    },
  );

  test.each(["", "   ", "a\0", "a\nb", "a\ud800", "x".repeat(201)])(
    "%j is no name, for any kind of record",
    async (name) => {
      const { accounts, provisioning } = setUp();
      await provisioning.firstRun();
      const before = await everything(accounts);
      expect(await codeOf(provisioning.createOrganization(name))).toBe("invalid_argument");
      expect(await codeOf(provisioning.createDock("dock_1", { name }))).toBe("invalid_argument");
      expect(await codeOf(provisioning.createClient({ name, dockId: FIRST_DOCK_ID }))).toBe(
        "invalid_argument",
      );
      expect(await codeOf(provisioning.createKey({ name, dockId: FIRST_DOCK_ID }))).toBe("invalid_argument");
      expect(await everything(accounts)).toBe(before);
    },
  );

  test("a client has the dock it is given, or all docks of its organisation", async () => {
    const { provisioning } = setUp();
    const { organization } = (await provisioning.firstRun())!;
    const bound = await provisioning.createClient({ name: "Bound", dockId: FIRST_DOCK_ID });
    expect(bound.client).toMatchObject({
      dockId: FIRST_DOCK_ID,
      organizationId: organization.id,
      scopes: SCOPES,
    });
    const wide = await provisioning.createClient({ name: "Wide", scopes: ["artifacts:read"] });
    expect(wide.client).toMatchObject({
      dockId: null,
      organizationId: organization.id,
      scopes: ["artifacts:read"],
    });

    const other = await provisioning.createOrganization("Other");
    expect(await codeOf(provisioning.createClient({ name: "Which?" }))).toBe("invalid_argument");
    expect(
      await codeOf(provisioning.createClient({ name: "x", dockId: FIRST_DOCK_ID, organizationId: other.id })),
    ).toBe("invalid_argument");
    expect(await codeOf(provisioning.createClient({ name: "x", dockId: "dock_none" }))).toBe("not_found");
    expect(await codeOf(provisioning.createClient({ name: "x", organizationId: "org_none" }))).toBe(
      "not_found",
    );
  });

  test.each([[[]], [["artifacts:read", "admin"]], [["artifacts:*"]], [[""]], [["ARTIFACTS:READ"]]])(
    "%j are no scopes of a client",
    async (scopes) => {
      const { provisioning } = setUp();
      await provisioning.firstRun();
      expect(await codeOf(provisioning.createClient({ name: "x", scopes }))).toBe("invalid_argument");
    },
  );

  test("what is wrong with scopes is said, also where there are none", async () => {
    const { provisioning } = setUp();
    await provisioning.firstRun();
    const made = (...scopes: string[]) => provisioning.createClient({ name: "x", scopes });
    await expect(made()).rejects.toThrow("A client needs a scope: choose from artifacts:read");
    await expect(made("admin", "x")).rejects.toThrow("Unknown scope admin x: choose from artifacts:read");
  });

  test("a scope that is named twice is held once", async () => {
    const { provisioning } = setUp();
    await provisioning.firstRun();
    const { client } = await provisioning.createClient({
      name: "x",
      scopes: ["artifacts:read", "artifacts:read"],
    });
    expect(client.scopes).toEqual(["artifacts:read"]);
  });

  test("client ids are readable, and differ for clients of the same name", async () => {
    const { provisioning } = setUp();
    await provisioning.firstRun();
    const ids = new Set<string>();
    for (const name of ["Ingest Bot #7", "Ingest Bot #7", "日本語", "x".repeat(200), "__", "-- drop --"]) {
      const { client } = await provisioning.createClient({ name, dockId: FIRST_DOCK_ID });
      expect(client.clientId).toMatch(/^dyc_[a-z0-9_]{1,24}_[0-9a-z]{10}$/);
      expect(client.id).toMatch(/^mc_[0-9A-HJKMNP-TV-Z]{26}$/);
      ids.add(client.clientId);
    }
    expect(ids.size).toBe(6);
    expect([...ids][0]).toMatch(/^dyc_ingest_bot_7_/);
  });

  test("clients are found by either id, and unknown ones by neither", async () => {
    const { provisioning } = setUp();
    const { client } = (await provisioning.firstRun())!;
    expect((await provisioning.rotateClient(client.id)).client.id).toBe(client.id);
    expect((await provisioning.disableClient(client.clientId)).isActive).toBe(false);
    for (const id of ["", "mc_none", "\0", "x".repeat(1_000), "' OR 1=1 --"]) {
      expect(await codeOf(provisioning.disableClient(id))).toBe("not_found");
      expect(await codeOf(provisioning.rotateClient(id))).toBe("not_found");
      expect(await codeOf(provisioning.createKey({ name: "x", dockId: id }))).toBe("not_found");
    }
  });

  test("secrets are never stored, by any operation", async () => {
    const { accounts, provisioning } = setUp();
    const first = (await provisioning.firstRun())!;
    const secrets = [
      first.clientSecret,
      first.apiKey,
      (await provisioning.createClient({ name: "x" })).clientSecret,
      (await provisioning.rotateClient(first.client.id)).clientSecret,
      (await provisioning.createKey({ name: "x", dockId: FIRST_DOCK_ID })).apiKey,
    ];
    expect(new Set(secrets).size).toBe(secrets.length);
    const stored = await everything(accounts);
    for (const secret of secrets) {
      expect(stored).not.toContain(secret.slice(secret.lastIndexOf("_") + 1));
      expect(stored).toContain(secret === first.clientSecret ? "secretDigest" : await digestSecret(secret));
    }
    expect(stored).not.toContain(await digestSecret(first.clientSecret));
  });
});

describe("what a dock may hold, and for how long", () => {
  test("is set, replaced and taken away", async () => {
    const { provisioning, accounts } = setUp();
    await provisioning.createOrganization("Org");
    const made = await provisioning.createDock("dock_1");
    const quota = { bytes: 10, artifacts: 0 };
    expect(await provisioning.setQuota("dock_1", quota)).toEqual({ ...made, quota });
    const retention = [{ afterMs: 60_000, metadata: { kind: "scan" } }, { afterMs: 90 * 86_400_000 }];
    expect(await provisioning.setRetention("dock_1", retention)).toEqual({ ...made, quota, retention });
    await provisioning.setQuota("dock_1", {});
    await provisioning.setRetention("dock_1", []);
    expect(await accounts.find("dock", { id: "dock_1" })).toEqual({ ...made, quota: {}, retention: [] });
    expect(await codeOf(provisioning.setQuota("dock_2", quota))).toBe("not_found");
    expect(await codeOf(provisioning.setRetention("dock_2", retention))).toBe("not_found");
  });

  test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])("%s is no quota", async (bytes) => {
    const { provisioning } = setUp();
    await provisioning.createOrganization("Org");
    await provisioning.createDock("dock_1");
    expect(await codeOf(provisioning.setQuota("dock_1", { bytes }))).toBe("invalid_argument");
  });

  test.each([
    [{ afterMs: 59_999 }],
    [{ afterMs: Number.NaN }],
    [{ afterMs: 60_000.5 }],
    [{ afterMs: 60_000, metadata: { n: Number.POSITIVE_INFINITY } }],
    // No longer than what a list may ask: PostgreSQL plans a filter of hundreds of values for seconds.
    [{ afterMs: 60_000, metadata: { tags: Array.from({ length: 32 }, (_, i) => i) } }],
    Array.from({ length: 101 }, () => ({ afterMs: 60_000 })),
  ])("no retention rules: %j", async (...rules) => {
    const { provisioning } = setUp();
    await provisioning.createOrganization("Org");
    await provisioning.createDock("dock_1");
    expect(await codeOf(provisioning.setRetention("dock_1", rules))).toBe("invalid_argument");
  });
});

describe("ids", () => {
  /** Clocks that stand still, run, jump and go back. */
  const ticks = fc.array(fc.oneof(fc.constant(0), fc.constant(1), fc.integer({ min: -5_000, max: 5_000 })), {
    minLength: 1,
    maxLength: 200,
  });
  const clockOf = (steps: readonly number[]): { now: () => number } => {
    let [time, index] = [NOON, 0];
    return { now: () => (time += steps[index++ % steps.length]!) };
  };

  test.each([
    ["ULIDs", (ids: IdSource) => ids.ulid("art"), /^art_[0-7][0-9A-HJKMNP-TV-Z]{25}$/],
    ["24 hex digits", (ids: IdSource) => ids.hex24(), /^[0-9a-f]{24}$/],
  ] as const)("%s grow strictly, whatever the clock does", (_, make, format) => {
    fc.assert(
      fc.property(ticks, (steps) => {
        const ids = createIdSource(clockOf(steps).now);
        let before = "";
        for (let i = 0; i < steps.length * 2; i++) {
          const id = make(ids);
          expect(id).toMatch(format);
          expect(id > before).toBe(true);
          before = id;
        }
      }),
    );
  });

  test("both kinds from one source keep growing, taken in any order", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 200 }), ticks, (kinds, steps) => {
        const ids = createIdSource(clockOf(steps).now);
        const last = { ulid: "", hex: "" };
        for (const isUlid of kinds) {
          const id = isUlid ? ids.ulid("a") : ids.hex24();
          const kind = isUlid ? "ulid" : "hex";
          expect(id > last[kind]).toBe(true);
          last[kind] = id;
        }
      }),
    );
  });

  test("begin with their time: the order of ids is the order of making, across sources", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 47), fc.integer({ min: 1, max: 2 ** 40 }), (time, later) => {
        const [early, late] = [createIdSource(() => time), createIdSource(() => time + later)];
        expect(early.ulid("art") < late.ulid("art")).toBe(true);
        expect(early.hex24() < late.hex24()).toBe(true);
        expect(Number.parseInt(late.hex24().slice(0, 12), 16)).toBe(time + later);
      }),
    );
  });

  test("a ULID's first ten letters are its time in Crockford's alphabet", () => {
    // The example of the ULID specification.
    expect(
      createIdSource(() => 1_469_918_176_385)
        .ulid("x")
        .slice(2, 12),
    ).toBe("01ARYZ6S41");
  });

  test("are unique: a hundred thousand in one millisecond, and in many sources", () => {
    const one = createIdSource(() => NOON);
    const ids = new Set(Array.from({ length: 100_000 }, () => one.ulid("art")));
    expect(ids.size).toBe(100_000);
    const many = new Set(Array.from({ length: 20_000 }, () => createIdSource(() => NOON).hex24()));
    expect(many.size).toBe(20_000);
  });

  test("a whole millisecond cannot run out of them: the worst randomness still leaves room", () => {
    const ids = createIdSource(
      () => NOON,
      (bytes) => void bytes.fill(0xff),
    );
    for (const make of [() => ids.ulid("art"), () => ids.hex24()]) {
      let before = make();
      for (let i = 0; i < 10_000; i++) {
        const id = make();
        expect(id > before).toBe(true);
        before = id;
      }
    }
  });

  test("fresh randomness in every millisecond: ids cannot be guessed from their neighbours", () => {
    let time = NOON;
    const ids = createIdSource(() => time++);
    const tails = Array.from({ length: 1_000 }, () => ids.ulid("a").slice(12, 22));
    expect(new Set(tails).size).toBe(1_000);
  });
});

describe("newSecret", () => {
  test("is its prefix and 43 letters and digits, never the same twice", () => {
    const secrets = Array.from({ length: 10_000 }, () => newSecret("dys_live_"));
    expect(new Set(secrets).size).toBe(secrets.length);
    for (const secret of secrets) expect(secret).toMatch(/^dys_live_[0-9A-Za-z]{43}$/);
  });

  test("every letter is as likely as any other, in every place", () => {
    const rounds = 20_000;
    const counts = new Map<string, number>();
    for (let i = 0; i < rounds; i++) {
      for (const letter of newSecret("")) counts.set(letter, (counts.get(letter) ?? 0) + 1);
    }
    expect(counts.size).toBe(62);
    const expected = (rounds * 43) / 62;
    let deviation = 0;
    for (const count of counts.values()) deviation += (count - expected) ** 2 / expected;
    // Chi-squared with 61 degrees of freedom: beyond 200 once in 10^16 runs; a plain `byte % 62` gives over 7,000.
    expect(deviation).toBeLessThan(200);
  });
});
