/**
 * The whole system against a model that a reader can check by eye: clients of several rights create, send, complete,
 * list, get, download and remove in two docks while the clock turns and sweeps run. One call at a time; races are in
 * settle.test.ts, crashes in crash.test.ts.
 */
import type { Artifact, ErrorCode, JsonObject, ListInput, Principal, Scope } from "@docyard/core";
import { isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { audit, auditCleanedUp } from "./audit.ts";
import type { DockId, World } from "./world.ts";
import { bytesOf, createWorld, HOUR_MS, MINUTE_MS, principal, receive, send, sha256 } from "./world.ts";

const SIZE_MAX = 12;
/** The last one is over the limit. */
const CONTENTS = ["", "a", "bb", "alpha", "twelve bytes", "thirteen byte"] as const;
const NAMES = ["Report.PDF", "report 2.pdf", "straße.txt", "ÉTÉ.csv", "x"] as const;
const METADATA: readonly JsonObject[] = [
  {},
  { patientId: "12345" },
  { patientId: "12345", kind: "discharge", pages: 3 },
  { patientId: 12345, tags: ["a", "b"] },
];
const FILTERS: readonly JsonObject[] = [
  {},
  { patientId: "12345" },
  { patientId: 12345 },
  { tags: ["b"] },
  { no: 1 },
];
const SEARCHES = ["", "report", "STRASSE", "été", ".pdf", "nothing"] as const;
const DOCKS_TRIED = ["dock_a", "dock_b", "dock_missing"] as const;
type DockTried = (typeof DOCKS_TRIED)[number];

/** Who calls. `org_y` owns another dock and must see none of these. */
const CALLERS = {
  all: principal("org_x"),
  reader: principal("org_x", null, ["artifacts:read"]),
  writer: principal("org_x", null, ["artifacts:write"]),
  onlyA: principal("org_x", "dock_a"),
  onlyB: principal("org_x", "dock_b"),
  stranger: principal("org_y"),
  powerless: principal("org_x", null, ["policies:read"]),
} satisfies Record<string, Principal>;
type Caller = keyof typeof CALLERS;

/** One artifact as the model knows it. */
interface Known {
  readonly artifact: Artifact;
  readonly url: string;
  readonly urlEndsAt: number;
  readonly number: number;
  status: "created" | "completed" | "failed" | "deleted";
  /** What is staged: null for nothing. */
  staged: string | null;
  content: string | null;
  duplicateOf: Known | null;
  /** When the sweep has something to do with it. */
  dueAt: number | null;
  /** Whether its published bytes are still there. */
  hasBlob: boolean;
}

interface Model {
  readonly all: Known[];
}

/** Passed round as the real system; the model reads the clock here as well. */
type Real = World;

const completedIn = (model: Model, dock: DockTried): Known[] =>
  model.all.filter((known) => known.artifact.dockId === dock && known.status === "completed");

const holderOf = (model: Model, dock: DockTried, content: string): Known | undefined =>
  completedIn(model, dock).find((known) => known.content === content);

/** Ruling 5 in four lines: what opening this dock answers, or null where it opens. */
function accessError(caller: Caller, dock: DockTried, scope: Scope): ErrorCode | null {
  const who = CALLERS[caller];
  if (!who.scopes.includes(scope)) return "permission_denied";
  if (who.dockId !== null && who.dockId !== dock) return "permission_denied";
  return dock === "dock_missing" || who.organizationId !== "org_x" ? "not_found" : null;
}

/** Asserts that the call answers, or is refused with exactly this code. @returns the answer, or null if refused */
async function expectCode<T>(call: Promise<T>, code: ErrorCode | null): Promise<T | null> {
  try {
    const answer = await call;
    expect(code, "should have been refused").toBeNull();
    return answer;
  } catch (error) {
    if (!isDocyardError(error)) throw error;
    expect({ code: error.code, message: error.message }).toMatchObject({ code });
    expect(error.message.length).toBeGreaterThan(10);
    return null;
  }
}

abstract class Step implements fc.AsyncCommand<Model, Real> {
  readonly caller: Caller;
  readonly dock: DockTried;
  constructor(caller: Caller, dock: DockTried) {
    this.caller = caller;
    this.dock = dock;
  }
  check(_model: Readonly<Model>): boolean {
    return true;
  }
  abstract run(model: Model, real: Real): Promise<void>;
  abstract toString(): string;

  protected open<S extends "artifacts:read" | "artifacts:write">(real: Real, scope: S) {
    return expectCode(
      real.docyard.open(CALLERS[this.caller], this.dock, scope),
      accessError(this.caller, this.dock, scope),
    );
  }
  protected show(what: string): string {
    return `${this.caller}@${this.dock}.${what}`;
  }
}

/** One of the artifacts so far, whichever dock it is in: asking the wrong dock is part of the test. */
function pick(model: Model, number: number): Known {
  return model.all[number % model.all.length]!;
}

interface CreateShape {
  readonly name: number;
  readonly metadata: number;
  readonly declaresHash: boolean;
  readonly content: number;
  /** Relative to the content; null: not declared. */
  readonly size: number | null;
}

class Create extends Step {
  readonly shape: CreateShape;
  constructor(caller: Caller, dock: DockTried, shape: CreateShape) {
    super(caller, dock);
    this.shape = shape;
  }
  async run(model: Model, real: Real): Promise<void> {
    const dock = await this.open(real, "artifacts:write");
    if (dock === null) return;
    const { name, metadata, declaresHash, size } = this.shape;
    const content = CONTENTS[this.shape.content]!;
    const bytes = bytesOf(content);
    const declaredSize = size === null ? null : Math.max(0, bytes.length + size);
    const digest = declaresHash ? await sha256(bytes) : null;
    const created = await expectCode(
      dock.create({
        filename: NAMES[name]!,
        metadata: METADATA[metadata]!,
        ...(digest === null ? {} : { hash: `sha256:${digest.toUpperCase()}` }),
        ...(declaredSize === null ? {} : { size: declaredSize }),
      }),
      (declaredSize ?? 0) > SIZE_MAX ? "too_large" : null,
    );
    if (created === null) return;
    const holder = declaresHash ? holderOf(model, this.dock, content) : undefined;
    if (holder !== undefined) {
      expect(created).toMatchObject({
        isDuplicate: true,
        upload: null,
        artifact: { id: holder.artifact.id },
      });
      return;
    }
    const { artifact, upload } = created;
    expect(created.isDuplicate).toBe(false);
    expect(artifact).toMatchObject({
      dockId: this.dock,
      status: "created",
      filename: NAMES[name],
      metadata: METADATA[metadata],
      size: declaredSize,
      digest,
      createdBy: CALLERS[this.caller].id,
      createdAt: real.now(),
    });
    expect(model.all.some((known) => known.artifact.id >= artifact.id)).toBe(false);
    model.all.push({
      artifact,
      url: upload!.url,
      urlEndsAt: real.now() + HOUR_MS,
      number: model.all.length,
      status: "created",
      staged: null,
      content: null,
      duplicateOf: null,
      dueAt: real.now() + real.docyard.settings.uploadWindowMs,
      hasBlob: false,
    });
  }
  toString(): string {
    return this.show(`create(${JSON.stringify(this.shape)})`);
  }
}

class Put extends Step {
  readonly target: number;
  readonly content: number;
  constructor(target: number, content: number) {
    super("all", "dock_a");
    this.target = target;
    this.content = content;
  }
  override check(model: Readonly<Model>): boolean {
    return model.all.length > 0;
  }
  async run(model: Model, real: Real): Promise<void> {
    const known = pick(model, this.target);
    const content = CONTENTS[this.content]!;
    const code: ErrorCode | null =
      real.now() >= known.urlEndsAt
        ? "permission_denied"
        : known.status === "deleted"
          ? "not_found"
          : known.status !== "created"
            ? "failed_precondition"
            : content.length > SIZE_MAX
              ? "too_large"
              : null;
    const response = await expectCode(send(real, known.url, bytesOf(content)), code);
    if (response === null) return;
    expect(response.status).toBe(200);
    known.staged = content;
  }
  toString(): string {
    return `PUT(#${this.target}, ${JSON.stringify(CONTENTS[this.content])})`;
  }
}

class Complete extends Step {
  readonly target: number;
  readonly key: "none" | "right" | "wrong";
  constructor(caller: Caller, dock: DockTried, target: number, key: "none" | "right" | "wrong") {
    super(caller, dock);
    this.target = target;
    this.key = key;
  }
  override check(model: Readonly<Model>): boolean {
    return model.all.length > 0;
  }
  async run(model: Model, real: Real): Promise<void> {
    const dock = await this.open(real, "artifacts:write");
    if (dock === null) return;
    const known = pick(model, this.target);
    const { artifact } = known;
    const expected = await this.expected(known);
    const answer = await expectCode(
      dock.complete({
        uploadId: artifact.uploadId!,
        ...(this.key === "none"
          ? {}
          : { storageKey: artifact.storageKey + (this.key === "wrong" ? "x" : "") }),
      }),
      expected,
    );
    if (answer === null) {
      // Bytes that were not what was declared are dropped; the client may send others.
      if (known.status === "created" && this.reached(known) && known.staged !== null) known.staged = null;
      return;
    }
    if (known.status === "created") this.apply(model, real, known);
    const winner = known.duplicateOf ?? known;
    expect(answer.isDuplicate).toBe(winner !== known);
    expect(answer.artifact).toMatchObject({
      id: winner.artifact.id,
      dockId: this.dock,
      status: "upload_completed",
      size: winner.content!.length,
      digest: await sha256(bytesOf(winner.content!)),
      filename: winner.artifact.filename,
      metadata: winner.artifact.metadata,
      createdAt: winner.artifact.createdAt,
    });
  }
  /** Whether the call gets past its own arguments. */
  private reached(known: Known): boolean {
    return known.artifact.dockId === this.dock && this.key !== "wrong";
  }
  private async expected(known: Known): Promise<ErrorCode | null> {
    const { artifact, staged, status } = known;
    if (artifact.dockId !== this.dock) return "not_found";
    if (this.key === "wrong") return "invalid_argument";
    if (status === "completed") return null;
    if (status === "failed") return "failed_precondition";
    if (status === "deleted") return known.duplicateOf?.status === "completed" ? null : "not_found";
    if (staged === null) return "failed_precondition";
    if (artifact.size !== null && artifact.size !== staged.length) return "integrity_mismatch";
    if (artifact.digest !== null && artifact.digest !== (await sha256(bytesOf(staged))))
      return "integrity_mismatch";
    return null;
  }
  private apply(model: Model, real: Real, known: Known): void {
    const content = known.staged!;
    const holder = holderOf(model, this.dock, content);
    if (holder === undefined) {
      Object.assign(known, { status: "completed", content, staged: null, dueAt: null, hasBlob: true });
    } else {
      const dueAt = real.now() + real.docyard.settings.graceMs;
      Object.assign(known, { status: "deleted", duplicateOf: holder, dueAt });
    }
  }
  toString(): string {
    return this.show(`complete(#${this.target}, ${this.key} key)`);
  }
}

/** A client that does all of it, one after the other: what happens most in real life, and least by chance. */
class Deliver extends Step {
  readonly shape: CreateShape;
  constructor(dock: DockTried, shape: CreateShape) {
    super("all", dock);
    this.shape = shape;
  }
  async run(model: Model, real: Real): Promise<void> {
    const number = model.all.length;
    await new Create(this.caller, this.dock, this.shape).run(model, real);
    if (model.all.length === number) return;
    await new Put(number, this.shape.content).run(model, real);
    await new Complete(this.caller, this.dock, number, "right").run(model, real);
  }
  toString(): string {
    return this.show(`deliver(${JSON.stringify(this.shape)})`);
  }
}

class Get extends Step {
  readonly target: number;
  constructor(caller: Caller, dock: DockTried, target: number) {
    super(caller, dock);
    this.target = target;
  }
  override check(model: Readonly<Model>): boolean {
    return model.all.length > 0;
  }
  async run(model: Model, real: Real): Promise<void> {
    const dock = await this.open(real, "artifacts:read");
    if (dock === null) return;
    const known = pick(model, this.target);
    const isVisible = known.artifact.dockId === this.dock && known.status !== "deleted";
    const found = await expectCode(dock.get(known.artifact.id), isVisible ? null : "not_found");
    if (found === null) return;
    expect(found.artifact.id).toBe(known.artifact.id);
    expect(found.download === null).toBe(known.status !== "completed");
    if (found.download === null) return;
    expect(found.download.expiresAt).toBe(real.now() + HOUR_MS);
    expect(await receive(real, found.download.url)).toEqual(bytesOf(known.content!));
  }
  toString(): string {
    return this.show(`get(#${this.target})`);
  }
}

class Remove extends Step {
  readonly target: number;
  constructor(caller: Caller, dock: DockTried, target: number) {
    super(caller, dock);
    this.target = target;
  }
  override check(model: Readonly<Model>): boolean {
    return model.all.length > 0;
  }
  async run(model: Model, real: Real): Promise<void> {
    const dock = await this.open(real, "artifacts:write");
    if (dock === null) return;
    const known = pick(model, this.target);
    const isVisible = known.artifact.dockId === this.dock && known.status !== "deleted";
    const removed = dock.remove(known.artifact.id).then(() => true);
    if ((await expectCode(removed, isVisible ? null : "not_found")) === null) return;
    Object.assign(known, { status: "deleted", dueAt: real.now() + real.docyard.settings.graceMs });
  }
  toString(): string {
    return this.show(`remove(#${this.target})`);
  }
}

interface ListShape {
  readonly search: number;
  readonly filter: number;
  readonly limit: number;
  readonly offset: number;
  /** Number of the artifact whose time bounds the list, or null. */
  readonly after: number | null;
  readonly before: number | null;
  readonly widened: boolean;
}

class List extends Step {
  readonly shape: ListShape;
  constructor(caller: Caller, dock: DockTried, shape: ListShape) {
    super(caller, dock);
    this.shape = shape;
  }
  async run(model: Model, real: Real): Promise<void> {
    const dock = await this.open(real, "artifacts:read");
    if (dock === null) return;
    const { limit, offset, widened } = this.shape;
    const createdAfter = this.timeOf(model, this.shape.after);
    const createdBefore = this.timeOf(model, this.shape.before);
    const input: ListInput = {
      search: SEARCHES[this.shape.search]!,
      filter: FILTERS[this.shape.filter]!,
      limit,
      offset,
      ...(createdAfter === null ? {} : { createdAfter }),
      ...(createdBefore === null ? {} : { createdBefore }),
      ...(widened ? { statuses: ["created", "upload_completed", "upload_failed"] } : {}),
    };
    const { items, page } = await dock.list(input);

    const expected = model.all
      .filter(
        (known) =>
          known.artifact.dockId === this.dock &&
          (known.status === "completed" || (widened && known.status !== "deleted")) &&
          isFound(known.artifact.filename, input.search!) &&
          isSelected(known.artifact.metadata, this.shape.filter) &&
          (createdAfter === null || known.artifact.createdAt >= createdAfter) &&
          (createdBefore === null || known.artifact.createdAt < createdBefore),
      )
      .toReversed(); // made in order of time and of id
    const shown = expected.slice(offset, offset + limit);
    expect(items.map(({ artifact }) => artifact.id)).toEqual(shown.map(({ artifact }) => artifact.id));
    expect(page).toMatchObject({
      page: Math.floor(offset / limit) + 1,
      pageSize: limit,
      total: expected.length,
      hasMore: shown.length > 0 && offset + limit < expected.length,
    });
    for (const [index, { artifact, download }] of items.entries()) {
      const known = shown[index]!;
      expect(artifact.dockId).toBe(this.dock);
      if (known.status !== "completed") expect(download).toBeNull();
      else expect(await receive(real, download!.url)).toEqual(bytesOf(known.content!));
    }
  }
  private timeOf(model: Model, number: number | null): number | null {
    return number === null || model.all.length === 0 ? null : pick(model, number).artifact.createdAt;
  }
  toString(): string {
    return this.show(`list(${JSON.stringify(this.shape)})`);
  }
}

/** What a person would call found: letters compared without case, ß as ss. */
function isFound(filename: string, search: string): boolean {
  const plain = (text: string): string => text.toLocaleLowerCase("en").replaceAll("ß", "ss");
  return plain(filename).includes(plain(search));
}

/** Which metadata each filter selects, written down by hand. */
function isSelected(metadata: JsonObject, filter: number): boolean {
  const selected = [[0, 1, 2, 3], [1, 2], [3], [3], []][filter]!;
  return selected.some((index) => JSON.stringify(METADATA[index]) === JSON.stringify(metadata));
}

class Advance extends Step {
  readonly ms: number;
  constructor(ms: number) {
    super("all", "dock_a");
    this.ms = ms;
  }
  async run(_: Model, real: Real): Promise<void> {
    real.advance(this.ms);
  }
  toString(): string {
    return `advance(${this.ms / MINUTE_MS} min)`;
  }
}

class Sweep extends Step {
  constructor() {
    super("all", "dock_a");
  }
  async run(model: Model, real: Real): Promise<void> {
    expect((await real.docyard.sweep()).failures).toEqual([]);
    for (const known of model.all) {
      if (known.dueAt === null || known.dueAt > real.now()) continue;
      if (known.status === "created") {
        Object.assign(known, { status: "failed", dueAt: real.now() + real.docyard.settings.graceMs });
      } else {
        Object.assign(known, { staged: null, hasBlob: false, dueAt: null });
      }
    }
  }
  toString(): string {
    return "sweep()";
  }
}

/** Every byte in the blob store is one the model knows of, and the other way round. */
async function checkBytes(model: Model, real: Real): Promise<void> {
  const expected: string[] = [];
  for (const { artifact, staged, content, hasBlob } of model.all) {
    if (staged !== null) expected.push(artifact.stagingKey!);
    if (hasBlob) expected.push(`${artifact.storageKey}-${await sha256(bytesOf(content!))}`);
  }
  expect(await real.keys()).toEqual(expected.toSorted());
}

/** The command, and the check of all bytes after it. */
class Checked implements fc.AsyncCommand<Model, Real> {
  readonly step: Step;
  constructor(step: Step) {
    this.step = step;
  }
  check(model: Readonly<Model>): boolean {
    return this.step.check(model);
  }
  async run(model: Model, real: Real): Promise<void> {
    await this.step.run(model, real);
    await checkBytes(model, real);
  }
  toString(): string {
    return this.step.toString();
  }
}

const caller = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Caller>("all") },
  { weight: 1, arbitrary: fc.constantFrom(...(Object.keys(CALLERS) as Caller[])) },
);
const dock = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom<DockTried>("dock_a", "dock_a", "dock_b") },
  { weight: 1, arbitrary: fc.constantFrom<DockTried>(...DOCKS_TRIED) },
);
const target = fc.nat(20);
/** Two of them most of the time, so that they meet. */
const content = fc.oneof(fc.constantFrom(1, 3), fc.nat(CONTENTS.length - 1));

const shape: fc.Arbitrary<CreateShape> = fc.record({
  name: fc.nat(NAMES.length - 1),
  metadata: fc.nat(METADATA.length - 1),
  declaresHash: fc.boolean(),
  content,
  size: fc.option(fc.constantFrom(0, 0, 0, 1, -1), { freq: 2 }),
});
const create = fc.tuple(caller, dock, shape).map((args) => new Create(...args));
const deliver = fc.tuple(dock, shape).map((args) => new Deliver(...args));
const put = fc.tuple(target, content).map((args) => new Put(...args));
const complete = fc
  .tuple(caller, dock, target, fc.constantFrom("none", "none", "right", "wrong"))
  .map(([caller, dock, target, key]) => new Complete(caller, dock, target, key as "none"));
const list = fc
  .tuple(
    caller,
    dock,
    fc.record({
      search: fc.oneof(fc.constant(0), fc.nat(SEARCHES.length - 1)),
      filter: fc.oneof(fc.constant(0), fc.nat(FILTERS.length - 1)),
      limit: fc.integer({ min: 1, max: 5 }),
      offset: fc.oneof(fc.constant(0), fc.nat(6)),
      after: fc.option(target, { freq: 2 }),
      before: fc.option(target, { freq: 2 }),
      widened: fc.boolean(),
    }),
  )
  .map((args) => new List(...args));
const get = fc.tuple(caller, dock, target).map((args) => new Get(...args));
const remove = fc.tuple(caller, dock, target).map((args) => new Remove(...args));
/** Never exactly a whole window: what happens at the very millisecond is not this test's question. */
const advance = fc
  .constantFrom(1, 1, 10 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS + 7, 25 * HOUR_MS + 7)
  .map((ms) => new Advance(ms));

/** Sends and completes need luck to meet their upload, so they are tried more often. */
const sending = [create, create, deliver, deliver, put, put, put, complete, complete, complete];
const steps: fc.Arbitrary<Step>[] = [...sending, list, list, get, remove, advance, fc.constant(new Sweep())];
const commands = fc.commands(
  steps.map((step) => step.map((step) => new Checked(step))),
  { maxCommands: 60, size: "max" },
);

describe("the whole system", () => {
  test("does what the model says, in both docks, for every caller, at any time", async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(commands, async (commands) => {
        const world = await createWorld({ settings: { sizeMax: SIZE_MAX } });
        const model: Model = { all: [] };
        await fc.asyncModelRun(() => ({ model, real: world }), commands);
        for (const known of model.all) {
          const end = known.duplicateOf === null ? known.status : "duplicate";
          seen.set(end, (seen.get(end) ?? 0) + 1);
        }
        await checkStranger(world);
        await audit(world);
        await auditCleanedUp(world);
      }),
      { numRuns: 300 },
    );
    // A model that never gets anywhere would agree with anything.
    for (const end of ["created", "completed", "failed", "deleted", "duplicate"]) {
      expect(seen.get(end) ?? 0, `runs that ended as ${end}`).toBeGreaterThan(20);
    }
  });
});

/** The other organisation's dock is as empty as it was. */
async function checkStranger(world: World): Promise<void> {
  const dock: DockId = "dock_z";
  const reader = await world.docyard.open(CALLERS.stranger, dock, "artifacts:read");
  const { items, page } = await reader.list({ statuses: ["created", "upload_completed", "upload_failed"] });
  expect(items).toEqual([]);
  expect(page.total).toBe(0);
}
