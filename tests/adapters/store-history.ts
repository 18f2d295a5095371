/**
 * The law of every store: after any history it answers as the store in memory does, its usage is what its rows add up
 * to, and what it dumps makes another store that answers alike. Histories have few ids, contents and docks, so that
 * writes often meet; the single cases are the conformance suites'.
 */

import { client, dock, key, organization } from "../../packages/adapters/src/conformance/account-records.ts";
import { eventsOf } from "../../packages/adapters/src/conformance/store-case.ts";
import type { OpenStore } from "@docyard/adapters/conformance/store-records";
import { answersOf, dumpOf } from "@docyard/adapters/conformance/store-records";
import { memoryStore } from "@docyard/adapters/store/memory";
import type {
  AccountRecord,
  Artifact,
  ArtifactChange,
  FindQuery,
  NewEvent,
  Quota,
  Store,
  StoreRecord,
} from "@docyard/core";
import { addUsage, ARTIFACT_STATUSES, FACES, isDocyardError, NO_USAGE, usageOf } from "@docyard/core";
import * as fc from "fast-check";
import { expect } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

/** One thing that is done to a store; `version` counts from the row's own. */
type Deed =
  | { readonly do: "insert"; readonly artifact: Artifact; readonly quota: Quota | undefined }
  | {
      readonly do: "update";
      readonly id: string;
      readonly version: number;
      readonly change: ArtifactChange;
      readonly event: NewEvent | null;
      readonly quota: Quota | undefined;
    }
  | { readonly do: "load"; readonly records: readonly StoreRecord[] }
  | { readonly do: "account"; readonly account: AccountRecord }
  | { readonly do: "rename"; readonly id: string; readonly name: string };

const DOCKS = ["dock_a", "dock_b"] as const;
const digestOf = (number: number): string => number.toString(16).padStart(64, "0");
const event: NewEvent = { type: "artifact.created", at: 7, by: "mc_1" };

const sizes = fc.constantFrom(null, 0, 1, 5, 2 ** 31, 2 ** 48);
const contents = fc.constantFrom(null, digestOf(1), digestOf(2), digestOf(3));
const numbers = fc.integer({ min: 1, max: 9 });

const artifacts: fc.Arbitrary<Artifact> = fc
  .record({
    number: numbers,
    uploadOf: numbers,
    dockId: fc.constantFrom(...DOCKS),
    face: fc.constantFrom(...FACES),
    status: fc.constantFrom(...ARTIFACT_STATUSES, "upload_completed" as const),
    size: sizes,
    digest: contents,
    sharesBlob: fc.boolean(),
    metadata: fc.constantFrom({}, { a: 1 }, { a: 1, b: ["x", "y"] }, { a: 2, b: ["x"] }),
    dueAt: fc.constantFrom(null, 5, 9),
  })
  .map(({ number, uploadOf, ...over }) =>
    plainArtifact(number, {
      ...over,
      uploadId: uploadOf === 9 ? null : `upload_${uploadOf > 6 ? uploadOf : number}`,
      blobKey: over.digest === null ? null : `blobs/${over.digest.at(-1)}`,
    }),
  );

const quotas: fc.Arbitrary<Quota | undefined> = fc.option(
  fc.record(
    { artifacts: fc.nat(4), open: fc.nat(3), bytes: fc.constantFrom(0, 5, 12, 2 ** 40) },
    { requiredKeys: [] },
  ),
  { nil: undefined },
);

const events: fc.Arbitrary<StoreRecord> = fc
  .record({ dockId: fc.constantFrom(...DOCKS), seq: fc.integer({ min: 1, max: 12 }), number: numbers })
  .map(({ dockId, seq, number }) => ({
    kind: "event",
    event: { ...event, data: { number }, dockId, seq, artifactId: plainArtifact(number).id },
  }));

const accounts: fc.Arbitrary<AccountRecord> = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
  .chain(([number, other]) =>
    fc.constantFrom<AccountRecord>(
      organization(number),
      dock(number, { createdAt: other, quota: { bytes: number } }),
      client(number, { clientId: `dyc_${other}` }),
      key(number, { secretDigest: digestOf(other) }),
    ),
  );

const records: fc.Arbitrary<StoreRecord[]> = fc.array(
  fc.oneof(
    artifacts.map((artifact): StoreRecord => ({ kind: "artifact", artifact })),
    events,
    accounts.map((account): StoreRecord => ({ kind: "account", account })),
  ),
  { maxLength: 6 },
);

const deeds: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("insert" as const), artifact: artifacts, quota: quotas }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("update" as const),
      id: numbers.map((number) => plainArtifact(number).id),
      version: fc.constantFrom(0, 0, 0, 0, 0, 0, 1),
      change: fc.record(
        {
          status: fc.constantFrom(...ARTIFACT_STATUSES),
          size: sizes,
          digest: contents,
          sharesBlob: fc.boolean(),
          dueAt: fc.constantFrom(null, 3),
        },
        { requiredKeys: [] },
      ),
      event: fc.constantFrom(event, event, null),
      quota: quotas,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("load" as const), records }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("account" as const), account: accounts }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("rename" as const),
      id: fc.constantFrom("dock_1", "dock_2"),
      name: fc.constantFrom("one", "two"),
    }),
  },
);

/** Asked again after each deed: what a store remembers of an answer may not outlive it. */
const QUERIES: readonly FindQuery[] = DOCKS.flatMap((dockId) =>
  [{}, { filter: { a: 1 } }].map((asked) => ({
    dockId,
    face: "machine" as const,
    statuses: ["upload_completed" as const],
    start: { offset: 0 },
    limit: 3,
    ...asked,
  })),
);

/** What came of it: the answer, or the code of the refusal. */
async function outcomeOf(store: Store, deed: Deed): Promise<unknown> {
  try {
    switch (deed.do) {
      case "insert":
        return await store.artifacts.insert(deed.artifact, event, deed.quota);
      case "update": {
        const version = ((await store.artifacts.get({ id: deed.id }))?.version ?? 0) + deed.version;
        return await store.artifacts.update(deed.id, version, deed.change, deed.event, deed.quota);
      }
      case "load":
        return await store.load(deed.records);
      case "account":
        return await store.accounts.insert([deed.account]);
      case "rename":
        return await store.accounts.update("dock", deed.id, { name: deed.name });
    }
  } catch (error) {
    if (isDocyardError(error)) return error.code;
    throw error;
  }
}

/** Records in an order that every store's dump can be put into. */
function inOrder(dumped: readonly StoreRecord[]): StoreRecord[] {
  const name = (record: StoreRecord): string =>
    record.kind === "account" ? `${record.account.kind} ${record.account.id}` : "";
  return [...dumped].sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0)).sort(accountsFirst);
}

const accountsFirst = (a: StoreRecord, b: StoreRecord): number =>
  Number(b.kind === "account") - Number(a.kind === "account");

async function expectUsageOfRows(store: Store): Promise<void> {
  for (const dockId of DOCKS) {
    const rows = (await store.artifacts.walk("", 1_000)).filter((row) => row.dockId === dockId);
    const sum = rows.map((row) => usageOf(row)).reduce(addUsage, NO_USAGE);
    expect(await store.artifacts.usage(dockId)).toEqual(sum);
  }
}

/** Checks the law; `open` gives an empty store each time. */
export async function checkHistories(open: () => Promise<OpenStore>, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(deeds, { maxLength: 40 }), async (history) => {
      const [subject, copy] = [await open(), await open()];
      try {
        await checkHistory(history, subject.store, copy.store);
      } finally {
        await subject.close();
        await copy.close();
      }
    }),
    { numRuns },
  );
}

async function checkHistory(history: readonly Deed[], subject: Store, copy: Store): Promise<void> {
  const reference = memoryStore();
  for (const deed of history) {
    const expected = await outcomeOf(reference, deed);
    expect(await outcomeOf(subject, deed)).toEqual(expected);
    for (const query of QUERIES) {
      expect(await subject.artifacts.find(query)).toEqual(await reference.artifacts.find(query));
    }
  }
  const dumped = await dumpOf(subject);
  expect(inOrder(dumped)).toEqual(inOrder(await dumpOf(reference)));
  const answers = await answersOf(reference, dumped);
  expect(await answersOf(subject, dumped)).toEqual(answers);
  await expectUsageOfRows(subject);

  expect(await copy.load(dumped)).toBe(dumped.length);
  expect(await answersOf(copy, dumped)).toEqual(answers);
  expect(await copy.load(dumped)).toBe(0);
  expect(await dumpOf(copy)).toEqual(dumped);
  await expectUsageOfRows(copy);
  // And on they go, with the next number of each dock.
  for (const [i, dockId] of DOCKS.entries()) {
    const next = plainArtifact(500 + i, { dockId, size: 1 });
    for (const store of [subject, copy]) await store.artifacts.insert(next, event);
    expect((await eventsOf(copy, dockId)).at(-1)).toEqual((await eventsOf(subject, dockId)).at(-1));
  }
  await reference.close();
}
