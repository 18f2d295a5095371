/**
 * What the store suites share: how a driver is opened for a case, what must hold when a case is over, plain rows.
 * The cases are in `artifact-store.ts`, `artifact-find.ts` and `account-store.ts`.
 */

import type { AccountKind, Artifact, ArtifactEvent, FindQuery, NewEvent, Store } from "@docyard/core";
import { addUsage, isDocyardError, NO_USAGE, usageOf } from "@docyard/core";
import { expect, test } from "vitest";

/** A store for one case, empty and its own. */
export interface OpenStore {
  readonly store: Store;
  /** For stores that persist: closes the store if it is open, and opens the same data again. */
  readonly reopen?: () => Promise<Store>;
  /** What is left besides the data once the store is closed: files, connections, transactions. Checked to be empty. */
  readonly leftovers?: () => Promise<readonly string[]>;
  /** Closes the store and removes its data. */
  readonly close: () => Promise<void>;
}

export interface StoreCase {
  readonly name: string;
  /** The case closes the store, so nothing can be asked of it afterwards. */
  readonly closes?: boolean;
  readonly run: (opened: OpenStore) => Promise<void>;
}

/** Runs each case on a store of its own; each ends with the check that nothing is left behind. */
export function runCases(cases: readonly StoreCase[], open: () => Promise<OpenStore>): void {
  test.for([...cases])("$name", async ({ run, closes = false }) => {
    const opened = await open();
    const { store, dockIds } = recording(opened.store);
    try {
      await run({ ...opened, store });
      if (!closes) await expectSettled(opened, dockIds);
      await opened.store.close();
      expect((await opened.leftovers?.()) ?? []).toEqual([]);
    } finally {
      await opened.close();
    }
  });
}

/** The same store, and which docks' records went through it. */
function recording(store: Store): { store: Store; dockIds: ReadonlySet<string> } {
  const dockIds = new Set<string>();
  const artifacts: Store["artifacts"] = {
    ...store.artifacts,
    insert: (artifact, ...rest) => {
      dockIds.add(artifact.dockId);
      return store.artifacts.insert(artifact, ...rest);
    },
  };
  const load: Store["load"] = (records) => {
    for (const record of records) {
      if (record.kind === "artifact") dockIds.add(record.artifact.dockId);
      if (record.kind === "event") dockIds.add(record.event.dockId);
    }
    return store.load(records);
  };
  return { store: { ...store, artifacts, load }, dockIds };
}

/** No transaction is open, and what a store that persists has, it has after being opened again. */
async function expectSettled(opened: OpenStore, dockIds: ReadonlySet<string>): Promise<void> {
  await opened.store.ready();
  await expectUsagesRight(opened.store, [...dockIds]);
  const before = await contentOf(opened.store, dockIds);
  if (opened.reopen === undefined) return;
  const again = await opened.reopen();
  expect(await contentOf(again, dockIds)).toEqual(before);
  await again.close();
}

/** Whatever has happened, each dock's usage is what its rows add up to. */
export async function expectUsagesRight(store: Store, dockIds: readonly string[]): Promise<void> {
  const sums = new Map(dockIds.map((dockId) => [dockId, NO_USAGE]));
  for (const artifact of await store.artifacts.walk("", ALL)) {
    sums.set(artifact.dockId, addUsage(sums.get(artifact.dockId) ?? NO_USAGE, usageOf(artifact)));
  }
  for (const [dockId, sum] of sums) expect(await store.artifacts.usage(dockId)).toEqual(sum);
}

const KINDS: readonly AccountKind[] = ["organization", "dock", "client", "key", "serverKey"];

async function contentOf(store: Store, dockIds: ReadonlySet<string>): Promise<unknown> {
  return {
    rows: await store.artifacts.walk("", ALL),
    events: await Promise.all([...dockIds].map((dockId) => eventsOf(store, dockId))),
    usages: await Promise.all([...dockIds].map((dockId) => store.artifacts.usage(dockId))),
    accounts: await Promise.all(KINDS.map((kind) => store.accounts.list(kind))),
  };
}

/** More events than any case writes. */
const ALL = 100_000;

export function eventsOf(store: Store, dockId: string = DOCK): Promise<ArtifactEvent[]> {
  return store.artifacts.events(dockId, 0, ALL);
}

/** The dock of rows that name none. */
export const DOCK = "dock_a";

/** An event to go with a change; `at` tells events apart. */
export function event(type: NewEvent["type"] = "artifact.created", at = 1_000): NewEvent {
  return { type, at, by: "mc_1" };
}

/** A digest of its own for each number. */
export function digest(number: number): string {
  return number.toString(16).padStart(64, "0");
}

/** A `created` row; every key is made from the number, and fields in `over` replace the plain ones. */
export function row(number: number, over: Partial<Artifact> = {}): Artifact {
  const name = String(number).padStart(6, "0");
  return {
    id: `art_${name}`,
    dockId: DOCK,
    face: "machine",
    version: 1,
    status: "created",
    filename: `file-${name}.pdf`,
    contentType: "application/pdf",
    size: null,
    digest: null,
    metadata: {},
    mediaType: null,
    source: { kind: "upload" },
    durationMs: null,
    failure: null,
    uploadId: `upload_${name}`,
    stagingKey: `incoming/${name}`,
    storageKey: `docks/${DOCK}/artifacts/${name}`,
    blobKey: null,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: null,
    createdBy: "mc_1",
    createdAt: 1_000_000 + number,
    updatedAt: 1_000_000 + number,
    ...over,
  };
}

/** A completed row with content of its own. */
export function completed(number: number, over: Partial<Artifact> = {}): Artifact {
  const plain = row(number);
  const blobKey = `${plain.storageKey}/bytes`;
  return { ...plain, status: "upload_completed", size: 1, digest: digest(number), blobKey, ...over };
}

/** Every field set to something that is not its default. */
export const FULL: Artifact = {
  ...row(1),
  face: "studio",
  version: 7,
  status: "upload_failed",
  size: Number.MAX_SAFE_INTEGER,
  digest: digest(1),
  metadata: { patientId: "12345", nested: { list: [1, "1", null, true] } },
  mediaType: "video",
  source: {
    kind: "fragments",
    fragments: [
      { source: { kind: "url", url: "https://example.com/ä?x=%20" }, startTime: 0.25 },
      { source: { kind: "s3", s3Path: "s3://bucket/key with spaces" }, startTime: 3 },
    ],
  },
  durationMs: 1_234.5,
  failure: { code: "upstream_failed", message: 'the server at \u{1f600} said "no"\n\u0000' },
  blobKey: "docks/dock_a/artifacts/other",
  sharesBlob: true,
  duplicateOf: "art_other",
  attempts: 3,
  dueAt: 1_700_000_000_123,
  updatedAt: 1_700_000_000_456,
};

/** Stores rows one after the other. */
export async function insertAll(store: Store, rows: readonly Artifact[]): Promise<void> {
  for (const artifact of rows) await store.artifacts.insert(artifact, event());
}

/** The first page of a dock's completed machine rows, changed by `over`. */
export function query(over: Partial<FindQuery> = {}): FindQuery {
  return {
    dockId: DOCK,
    face: "machine",
    statuses: ["upload_completed"],
    start: { offset: 0 },
    limit: 100,
    ...over,
  };
}

/** The ids a query finds, which must all be on its page. */
export async function idsFound(store: Store, over: Partial<FindQuery>): Promise<string[]> {
  const found = await store.artifacts.find(query(over));
  const ids = found.rows.map(({ id }) => id);
  expect({ total: found.total, more: found.more }).toEqual({ total: ids.length, more: false });
  return ids;
}

/** Rejects with `already_exists`, and with nothing else. */
export async function expectTaken(attempt: Promise<unknown>): Promise<void> {
  const outcome = await attempt.then(
    () => "stored",
    (error: unknown) => (isDocyardError(error) ? error.code : String(error)),
  );
  expect(outcome).toBe("already_exists");
}

/** How many of these came true; the others must all be `already_exists`, or null where a guard may miss. */
export async function winners(attempts: readonly Promise<unknown>[]): Promise<number> {
  const outcomes = await Promise.allSettled(attempts);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected" && !isDocyardError(outcome.reason, "already_exists"))
      throw outcome.reason;
  }
  return outcomes.filter(
    ({ status, ...rest }) => status === "fulfilled" && "value" in rest && rest.value !== null,
  ).length;
}

/** Names that files may have (ruling 9) and that databases, patterns and indexes trip over. */
export const HOSTILE_NAMES: readonly string[] = [
  "a",
  "ab",
  "%",
  "_",
  "100%_done*.pdf",
  "'; drop table artifact; --",
  'quoted "name".pdf',
  "back`tick",
  " leading and trailing ",
  "...",
  "-rf",
  "NEAR AND OR NOT",
  "naïve.pdf",
  "e\u0301 decomposed",
  "ΟΔΥΣΣΕΥΣ",
  "İstanbul",
  "STRASSE straße",
  "日本語のファイル.pdf",
  "😀👨‍👩‍👧‍👦.png",
  "\ufffd\ufffe",
  "\u200fمستند",
  "x".repeat(255),
];

/** Documents whose keys and values are easily lost, renamed or taken for something else. */
export const HOSTILE_METADATA: readonly string[] = [
  '{"__proto__":{"polluted":true}}',
  '{"constructor":{"prototype":1}}',
  '{"":"empty","." :"dot","a.b":1,"\\"":2,"[]":3}',
  '{"nul":"\\u0000","lone":"\\ud800","tail":"\\udfff","sep":"\\u2028"}',
  '{"\\u0000":1,"\\n":2,"\\ud800":3,"\\udc00":4}',
  '{"\\\\":1,"\\\\n":2,"C:\\\\temp":{"\\\\\\"":[{"\\u0001":"\\\\"}]}}',
  '{"precomposed":"é","decomposed":"e\\u0301"}',
  '{"big":9007199254740991,"small":5e-324,"huge":1.7976931348623157e308,"neg":-1.5}',
  '{"true":true,"false":false,"null":null,"zero":0,"text":"true"}',
  '{"0":"index","1":"order","-1":"no index"}',
  `{"long":"${"x".repeat(5_000)}","${"k".repeat(2_000)}":1}`,
  '{"deep":{"er":{"and":{"deep":["er",["still",{"x":[]}]]}}}}',
];
