/**
 * The conformance suite of the `AccountStore` port: every sentence of its contract as a named case, for any driver.
 * What the records mean is core's, and core's tests'.
 */

import type { AccountKind, AccountRecord, MachineClient } from "@docyard/core";
import { handleOf } from "@docyard/core";
import { describe, expect } from "vitest";
import { client, dock, key, one, organization, serverKey } from "./account-records.ts";
import type { OpenStore, StoreCase } from "./store-case.ts";
import { expectTaken, runCases, winners } from "./store-case.ts";

export type { OpenStore } from "./store-case.ts";

/** Runs the suite; `open` is called once per case and must give an empty store. */
export function testAccountStore(name: string, open: () => Promise<OpenStore>): void {
  describe(`${name} keeps the AccountStore contract`, () => {
    runCases(CASES, open);
  });
}

const CASES: readonly StoreCase[] = [
  {
    name: "insert keeps every field of every kind, and find gives them back by id and by handle",
    async run({ store: { accounts } }) {
      await accounts.insert(one);
      for (const record of one) {
        expect(await accounts.find(record.kind, { id: record.id })).toEqual(record);
        expect(await accounts.find(record.kind, { handle: handleOf(record) })).toEqual(record);
      }
    },
  },
  {
    name: "find is null where there is nothing, and never takes one kind for another, or an id for a handle",
    async run({ store: { accounts } }) {
      await accounts.insert([client(1)]);
      expect(await accounts.find("client", { id: "mc_2" })).toBeNull();
      expect(await accounts.find("client", { handle: "dyc_2" })).toBeNull();
      expect(await accounts.find("client", { id: "dyc_1" })).toBeNull();
      expect(await accounts.find("client", { handle: "mc_1" })).toBeNull();
      expect(await accounts.find("key", { id: "mc_1" })).toBeNull();
      expect(await accounts.find("organization", { id: "__proto__" })).toBeNull();
    },
  },
  {
    name: "the same id and handle may be taken once within each kind",
    async run({ store: { accounts } }) {
      await accounts.insert([
        organization(1, { id: "same" }),
        dock(1, { id: "same" }),
        serverKey(1, { id: "same" }),
      ]);
      for (const kind of ["organization", "dock", "serverKey"] as const) {
        expect((await accounts.find(kind, { id: "same" }))?.kind).toBe(kind);
      }
    },
  },
  {
    name: "insert refuses an id that is taken",
    async run({ store: { accounts } }) {
      await accounts.insert(one);
      for (const record of one) await expectTaken(accounts.insert([record]));
      await expectTaken(accounts.insert([client(1, { clientId: "dyc_other" })]));
      expect(await accounts.find("client", { handle: "dyc_other" })).toBeNull();
      expect(await accounts.find("client", { id: "mc_1" })).toEqual(client(1));
    },
  },
  {
    name: "insert refuses a handle that is taken",
    async run({ store: { accounts } }) {
      await accounts.insert(one);
      await expectTaken(accounts.insert([client(2, { clientId: "dyc_1" })]));
      await expectTaken(accounts.insert([key(2, { secretDigest: key(1).secretDigest })]));
      expect(await accounts.find("client", { id: "mc_2" })).toBeNull();
      expect(await accounts.find("key", { id: "key_2" })).toBeNull();
    },
  },
  {
    name: "insert stores all records or none",
    async run({ store: { accounts } }) {
      await accounts.insert([client(3)]);
      await expectTaken(accounts.insert([organization(9), client(1), client(2), client(3)]));
      await expectTaken(accounts.insert([key(1), key(2), key(1)]));
      expect(await accounts.list("client")).toEqual([client(3)]);
      expect(await accounts.list("key")).toEqual([]);
      expect(await accounts.list("organization")).toEqual([]);
    },
  },
  {
    name: "insert of nothing is fine",
    async run({ store: { accounts } }) {
      await accounts.insert([]);
      expect(await accounts.list("dock")).toEqual([]);
    },
  },
  {
    name: "of 16 racing inserts with one id, or one handle, one is stored",
    async run({ store: { accounts } }) {
      const racers = Array.from({ length: 16 }, (_, i) => i);
      const insert = (record: AccountRecord): Promise<boolean> => accounts.insert([record]).then(() => true);
      expect(await winners(racers.map((i) => insert(client(1, { clientId: `dyc_${i}` }))))).toBe(1);
      expect(await winners(racers.map((i) => insert(client(100 + i, { clientId: "dyc_same" }))))).toBe(1);
      expect(await accounts.list("client")).toHaveLength(2);
    },
  },
  {
    name: "list gives the records of a kind, oldest first, and ids break ties",
    async run({ store: { accounts } }) {
      const docks = [
        dock(3, { createdAt: 5 }),
        dock(1, { createdAt: 9 }),
        dock(2, { createdAt: 5 }),
        dock(4),
      ];
      await accounts.insert([...docks, ...one.filter(({ kind }) => kind !== "dock")]);
      expect((await accounts.list("dock")).map(({ id }) => id)).toEqual([
        "dock_4",
        "dock_2",
        "dock_3",
        "dock_1",
      ]);
      expect(await accounts.list("serverKey")).toEqual([serverKey(1)]);
    },
  },
  {
    name: "list is of one organisation when it is named",
    async run({ store: { accounts } }) {
      const other = { organizationId: "org_2" };
      await accounts.insert([
        ...one,
        organization(2),
        dock(2, other),
        client(2, { ...other, dockId: null }),
        key(2, other),
      ]);
      const kinds: readonly AccountKind[] = ["dock", "client", "key", "organization"];
      for (const kind of kinds) {
        expect(await accounts.list(kind)).toHaveLength(2);
        for (const number of [1, 2]) {
          const listed = await accounts.list(kind, `org_${number}`);
          expect(listed.map(({ id }) => id.replace(/^\D+/, ""))).toEqual([String(number)]);
        }
        expect(await accounts.list(kind, "org_3")).toEqual([]);
      }
      expect(await accounts.list("serverKey", "org_1")).toEqual([]);
    },
  },
  {
    name: "update changes the fields it is given, resolves to the new record, and never touches identity",
    async run({ store: { accounts } }) {
      await accounts.insert([client(1), client(2)]);
      const changed = {
        ...client(1),
        isActive: false,
        scopes: ["artifacts:read"],
        dockId: null,
        name: "New",
      };
      const change = { isActive: false, scopes: ["artifacts:read"], dockId: null, name: "New" } as const;
      expect(await accounts.update("client", "mc_1", change)).toEqual(changed);
      expect(await accounts.find("client", { handle: "dyc_1" })).toEqual(changed);
      expect(await accounts.find("client", { id: "mc_2" })).toEqual(client(2));
      const forged = { id: "mc_9", kind: "key" } as object;
      expect(await accounts.update("client", "mc_1", forged)).toEqual(changed);
    },
  },
  {
    name: "update adds a field that the record never had, and list gives it back",
    async run({ store: { accounts } }) {
      await accounts.insert([serverKey(1), serverKey(2)]);
      const changed = { ...serverKey(1), revokedAt: 1_700_000_000_000 };
      expect(await accounts.update("serverKey", "kid_1", { revokedAt: 1_700_000_000_000 })).toEqual(changed);
      expect(await accounts.list("serverKey")).toEqual([changed, serverKey(2)]);
    },
  },
  {
    name: "update is null where there is no such record",
    async run({ store: { accounts } }) {
      await accounts.insert([client(1)]);
      expect(await accounts.update("client", "mc_2", { isActive: false })).toBeNull();
      expect(await accounts.update("key", "mc_1", { isActive: false })).toBeNull();
      expect(await accounts.list("client")).toEqual([client(1)]);
    },
  },
  {
    name: "update moves handle and organisation with the record",
    async run({ store: { accounts } }) {
      await accounts.insert([key(1), client(1)]);
      const secretDigest = "f".repeat(64);
      await accounts.update("key", "key_1", { secretDigest, organizationId: "org_2" });
      expect(await accounts.find("key", { handle: key(1).secretDigest })).toBeNull();
      expect((await accounts.find("key", { handle: secretDigest }))?.id).toBe("key_1");
      expect(await accounts.list("key", "org_1")).toEqual([]);
      expect(await accounts.list("key", "org_2")).toHaveLength(1);
    },
  },
  {
    name: "update refuses a handle that is taken, and changes nothing",
    async run({ store: { accounts } }) {
      await accounts.insert([key(1), key(2)]);
      await expectTaken(accounts.update("key", "key_2", { secretDigest: key(1).secretDigest, name: "x" }));
      expect(await accounts.list("key")).toEqual([key(1), key(2)]);
    },
  },
  {
    name: "racing updates of different fields are all kept",
    async run({ store: { accounts } }) {
      await accounts.insert([client(1)]);
      await Promise.all([
        accounts.update("client", "mc_1", { isActive: false }),
        accounts.update("client", "mc_1", { name: "New" }),
        accounts.update("client", "mc_1", { secretDigest: "e".repeat(64) }),
        accounts.update("client", "mc_1", { scopes: [] }),
      ]);
      const expected = {
        ...client(1),
        isActive: false,
        name: "New",
        secretDigest: "e".repeat(64),
        scopes: [],
      };
      expect(await accounts.find("client", { id: "mc_1" })).toEqual(expected);
    },
  },
  {
    name: "who asks after a change sees it, however closely the questions follow each other",
    async run({ store: { accounts } }) {
      await accounts.insert([client(1)]);
      const isActive = async () => (await accounts.find("client", { id: "mc_1" }))?.isActive;
      for (let i = 0; i < 20; i++) {
        const next = i % 2 === 1;
        const answers: (boolean | undefined)[] = [];
        await Promise.all([
          isActive(),
          accounts
            .update("client", "mc_1", { isActive: next })
            .then(async () => answers.push(await isActive())),
          isActive(),
        ]);
        expect([...answers, await isActive()]).toEqual([next, next]);
      }
      const late = client(2);
      expect(await accounts.find("client", { id: late.id })).toBeNull();
      await accounts.insert([late]);
      expect(await accounts.find("client", { id: late.id })).toEqual(late);
    },
  },
  {
    name: "what a caller does to a record afterwards does not reach the store",
    async run({ store: { accounts } }) {
      const scopes: MachineClient["scopes"][number][] = ["artifacts:read"];
      await accounts.insert([client(1, { scopes })]);
      scopes.push("audit:read");
      const found = (await accounts.find("client", { id: "mc_1" }))!;
      expect(found.scopes).toEqual(["artifacts:read"]);
      try {
        (found as { name: string }).name = "changed";
      } catch {
        // A store may just as well hand out records that cannot be changed.
      }
      expect((await accounts.find("client", { id: "mc_1" }))?.name).toBe(client(1).name);
    },
  },
  {
    name: "close finishes the writes under way",
    closes: true,
    async run({ store, reopen }) {
      const write = store.accounts.insert([organization(1)]);
      await store.close();
      await write;
      if (reopen === undefined) return;
      const again = await reopen();
      expect(await again.accounts.list("organization")).toEqual([organization(1)]);
      await again.close();
    },
  },
];
