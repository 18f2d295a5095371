/**
 * Workers are killed (SIGKILL) in the middle of fetching, joining and publishing, again and again; others take over.
 * Every artifact ends exactly once, with the right bytes, and nothing is left behind. Workers run from the sources with
 * short leases (studio-program.ts), for a minute's wait per kill would prove nothing more.
 */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Artifact, IngestSettings } from "@docyard/core";
import Database from "better-sqlite3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StudioClient } from "../http/studio-target.ts";
import { decode } from "../media/ffmpeg.ts";
import { seededBytes, sha256 } from "./files.ts";
import { build } from "./program.ts";
import { type Kit, openKit, until, type Worker } from "./studio-kit.ts";
import { piecesOf } from "./studio-origin.ts";

/** Attempts that a kill must have cut short, in all; `DOCYARD_TEST_FULL` has every kill count once. */
const INTERRUPTED_MIN = 200;
const KILLS_MIN = process.env["DOCYARD_TEST_FULL"] === "1" ? 200 : 20;
/** Should the kills keep missing, something else is wrong. */
const KILLS_MAX = KILLS_MIN * 4;
/** Artifacts that wait when a worker starts; what a kill leaves is among the next ones. */
const WAITING = 12;
const CONCURRENCY = 12;
/** Leases run out while the next worker starts; no number of kills makes anyone give up. */
const INGEST = { leaseMs: 600, attemptsMax: 1_000_000 } satisfies Partial<IngestSettings>;
/** Several of the program's own sizes of pieces, each sent at its own time. */
const PIECES = 6;
const PIECE_PAUSE_MS = 5;
/** From the last byte to the last row written takes so long: kills fall into all of it. */
const DELAY_MAX_MS = 60;
const DAYS_MS = 3 * 86_400_000;

/** Kills fall at different moments of every run; a failure prints what is needed to see the same ones. */
const SEED = process.env["DOCYARD_TEST_SEED"] ?? String(Date.now());

/** Where kills are aimed, in turn: just after one of the first so many times that an answer has come so far. */
const STEPS = [
  { step: "request", times: WAITING },
  { step: "end", times: WAITING },
  { step: "piece", times: WAITING * PIECES },
  { step: "end", times: WAITING },
  { step: "end", times: WAITING + WAITING / 4 },
] as const;
type Step = (typeof STEPS)[number]["step"];

let kit: Kit;
let client: StudioClient;

beforeAll(async () => {
  await build();
  kit = await openKit({ ingest: INGEST });
  client = await kit.client();
});
afterAll(() => kit.close());

/** What a test knows about an artifact of its own making. */
interface Expected {
  readonly id: string;
  /** Of the bytes; null for a join, whose bytes are the server's own. */
  readonly digest: string | null;
}

const isFinal = ({ status }: Artifact): boolean =>
  status === "upload_completed" || status === "upload_failed";

test(`killed workers finish every artifact once and leave nothing (seed ${SEED})`, async () => {
  const random = randomNumbers(SEED);
  let onStep: (step: Step) => void = () => {};
  const slowly = (bytes: Uint8Array, name: string): string =>
    kit.origin.stream(
      name,
      async function* () {
        onStep("request");
        for (const piece of piecesOf(bytes, PIECES)) {
          await sleep(PIECE_PAUSE_MS);
          yield piece;
          onStep("piece");
        }
        onStep("end");
      },
      bytes.length,
    );

  const kinds: (() => Promise<Expected>)[] = [
    async () => {
      const { bytes, name } = await kit.media.make("script");
      return made({ type: "script", url: slowly(bytes, name) }, sha256(bytes));
    },
    async () => {
      const { bytes, name } = await kit.media.make("video");
      return made({ type: "video", url: slowly(bytes, name) }, sha256(bytes));
    },
    async () => {
      const { bytes, name } = await kit.media.make("audio");
      return made({ type: "audio", s3Path: await client.upload(bytes, name) }, sha256(bytes));
    },
    async () => {
      const clips = await Promise.all([kit.media.make("video"), kit.media.make("video")]);
      const fragments = clips.map(({ bytes, name }, at) => ({ url: slowly(bytes, name), startTime: 2 * at }));
      return made({ type: "video", fragments }, null);
    },
  ];

  const all: Expected[] = [];
  let waiting: Expected[] = [];
  let interrupted = 0;
  let kills = 0;
  while (interrupted < INTERRUPTED_MIN || kills < KILLS_MIN) {
    expect(kills, "kills that interrupted too little").toBeLessThan(KILLS_MAX);
    while (waiting.length < WAITING) {
      const one = await kinds[all.length % kinds.length]!();
      all.push(one);
      waiting.push(one);
    }

    const target = STEPS[kills % STEPS.length]!;
    let left = Math.floor(random() * target.times);
    const isTime = Promise.withResolvers<void>();
    onStep = (reached) => {
      if (reached === target.step && left-- === 0) isTime.resolve();
    };
    const options = { concurrency: CONCURRENCY, ingest: INGEST };
    // Every fourth is the worker inside a server.
    const worker: Worker = kills % 4 === 3 ? kit.secondServer(options) : kit.worker(options);
    await Promise.race([isTime.promise, allEnded(waiting)]);
    await sleep(random() * DELAY_MAX_MS);
    worker.signal("SIGKILL");
    expect(await worker.exit).toEqual({ code: null, signal: "SIGKILL" });
    kills++;
    const rows = await Promise.all(waiting.map(({ id }) => kit.row(id)));
    interrupted += rows.filter(({ status }) => status === "upload_started").length;
    waiting = waiting.filter((_, index) => !isFinal(rows[index]!));
  }
  onStep = () => {};

  await sleep(INGEST.leaseMs);
  const last = kit.worker({ concurrency: CONCURRENCY, ingest: INGEST });
  await Promise.all([last.isWorking, allEnded(waiting)]);
  last.signal("SIGTERM");
  expect(await last.exit).toEqual({ code: 0, signal: null });
  console.log(`kills: ${kills} workers, ${interrupted} attempts cut short, ${all.length} artifacts`);

  await auditEvents(all);
  await auditBytes(all);
});

async function made(body: object, digest: string | null): Promise<Expected> {
  const { status, body: artifact } = await client.create({ name: "killed", ...body });
  expect(status).toBe(201);
  return { id: artifact.id, digest };
}

async function allEnded(expected: readonly Expected[]): Promise<void> {
  for (const { id } of expected) {
    await until(`${id} has ended`, async () => (isFinal(await kit.row(id)) ? true : null));
  }
}

/** Each artifact's story: created once, started at least once and with rising attempts, completed once, and no more. */
async function auditEvents(expected: readonly Expected[]): Promise<void> {
  const stories = await kit.events(client);
  expect([...stories.keys()].toSorted()).toEqual(expected.map(({ id }) => id).toSorted());
  for (const [id, events] of stories) {
    const words = events.map(({ type }) => type.replace("artifact.", "")).join(" ");
    expect(words, `story of ${id}`).toMatch(/^created( started)+ completed$/);
    const attempts = events
      .filter(({ type }) => type === "artifact.started")
      .map(({ data }) => data["attempt"]);
    expect(attempts, `attempts at ${id}`).toEqual(attempts.map((_, index) => index + 1));
  }
}

/** Whatever is stored is right, and nothing else is stored once upkeep has been by. */
async function auditBytes(expected: readonly Expected[]): Promise<void> {
  const upkeep = await kit.upkeepAt(Date.now() + DAYS_MS);
  expect((await upkeep.sweep()).failures).toEqual([]);
  await upkeep.sweepStaging();
  // Kills seldom fall into the moments of a join: one file like theirs is there in any case.
  await writeFile(join(kit.folder, "data/.scratch/docyard-media-killed"), "half a join");
  await kit.tidyScratchAfter(DAYS_MS);
  const files = await kit.files();
  const wanted = new Set<string>();
  for (const { id, digest } of expected) {
    const row = await kit.row(id);
    expect(row).toMatchObject({ status: "upload_completed", dueAt: null, failure: null });
    if (digest !== null) expect(row.digest).toBe(digest);
    wanted.add(row.blobKey!);
  }
  const joined = join(kit.folder, "joined.mp4");
  for (const key of wanted) {
    const path = [...files.keys()].find((file) => file.endsWith(key));
    expect(path, `no bytes of ${key}`).toBeDefined();
    expect(key.endsWith(files.get(path!)!), `other bytes under ${key}`).toBe(true);
  }
  for (const { id, digest } of expected.filter((one) => one.digest === null).slice(-2)) {
    expect(digest).toBeNull();
    const { downloadUrl } = (await client.get(id)).body;
    await writeFile(joined, new Uint8Array(await (await kit.target.fetch(downloadUrl!)).arrayBuffer()));
    expect((await decode(joined)).faults).toBe("");
  }
  const strays = [...files.keys()].filter((file) => ![...wanted].some((key) => file.includes(key)));
  expect(strays, "files that no artifact wants").toEqual([]);
}

describe("stopped (SIGSTOP) for longer than its lease, a worker that goes on writes nothing", () => {
  test.each(["before its answer", "in the middle", "at the last byte"] as const)("%s", async (where) => {
    const isThere = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    let asked = 0;
    const [theirs, ours] = [seededBytes(`${where} 1`, 300_000), seededBytes(`${where} 2`, 300_001)];
    // The first to ask is the one that will be stopped; a source may well have changed when the next one asks.
    const url = kit.origin.stream("notes.txt", async function* () {
      if (asked++ > 0) {
        yield ours;
        return;
      }
      const at = { "before its answer": 0, "in the middle": 1, "at the last byte": 2 }[where];
      for (const [index, piece] of [...piecesOf(theirs, 2), new Uint8Array()].entries()) {
        if (index === at) {
          isThere.resolve();
          await goOn.promise;
        }
        yield piece;
      }
    });
    const { id } = await made({ type: "script", url }, null);
    const stopped = kit.worker({ concurrency: 1, ingest: INGEST });
    await isThere.promise;
    await stopBetweenWrites(stopped);
    const lapsed = (await kit.row(id)).dueAt! + INGEST.leaseMs;
    await until("the lease has run out", () => (Date.now() > lapsed ? true : null));

    const other = kit.worker({ concurrency: 1, ingest: INGEST });
    await until(`${id} has ended`, async () => (isFinal(await kit.row(id)) ? true : null));
    await until("the other is done", () => (/"outcome":"completed"/.test(other.log()) ? true : null));
    other.signal("SIGTERM");
    await other.exit;
    const before = {
      row: await kit.row(id),
      events: (await kit.events(client)).get(id),
      files: await namedFiles(),
    };
    expect(before.row).toMatchObject({ status: "upload_completed", digest: sha256(ours), attempts: 2 });

    stopped.signal("SIGCONT");
    goOn.resolve();
    await until("the stopped one has noticed", () => (/"outcome":"lost"/.test(stopped.log()) ? true : null));
    stopped.signal("SIGTERM");
    expect(await stopped.exit).toEqual({ code: 0, signal: null });
    const after = {
      row: await kit.row(id),
      events: (await kit.events(client)).get(id),
      files: await namedFiles(),
    };
    expect(after).toEqual(before);
  });
});

/** Without what has no name yet: a worker that is stopped may have begun such a file, and takes it away later. */
async function namedFiles(): Promise<Map<string, string>> {
  return new Map([...(await kit.files())].filter(([path]) => !path.startsWith(".tmp/")));
}

/**
 * Whoever is stopped with SQLite's write lock in hand keeps everybody from writing, and nobody takes over anything until
 * it goes on: that is safe, and not what is tested here.
 */
async function stopBetweenWrites(worker: Worker): Promise<void> {
  const probe = new Database(join(kit.folder, "docyard.db"), { timeout: 0 });
  const isWritable = (): boolean => {
    try {
      probe.exec("BEGIN IMMEDIATE; ROLLBACK");
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === "SQLITE_BUSY") return false;
      throw error;
    }
  };
  try {
    await until("the worker is stopped and nobody writes", async () => {
      worker.signal("SIGSTOP");
      // It stops a moment later; the server, which may be writing as well, is done by then.
      await sleep(PIECE_PAUSE_MS);
      if (isWritable()) return true;
      worker.signal("SIGCONT");
      return null;
    });
  } finally {
    probe.close();
  }
}

describe("asked to stop (SIGTERM) in the middle of its work", () => {
  test("a worker gives the row back at once, and the attempt does not count", async () => {
    const isThere = Promise.withResolvers<void>();
    const never = Promise.withResolvers<void>();
    let asked = 0;
    const bytes = seededBytes("stopping", 300_000);
    const url = kit.origin.stream("notes.txt", async function* () {
      const [first, second] = piecesOf(bytes, 2);
      yield first!;
      if (asked++ === 0) {
        isThere.resolve();
        await never.promise;
      }
      yield second!;
    });
    const { id } = await made({ type: "script", url }, null);
    // The built executable with an operator's own settings: a lease of a minute, which nobody waits for here.
    const worker = kit.worker({ concurrency: 1 });
    await isThere.promise;
    const taken = await kit.row(id);
    expect(taken).toMatchObject({ status: "upload_started", attempts: 1 });
    expect(taken.dueAt).toBeGreaterThan(Date.now());
    worker.signal("SIGTERM");
    expect(await worker.exit).toEqual({ code: 0, signal: null });
    expect(worker.log()).toMatch(/"outcome":"released"/);
    const row = await kit.row(id);
    expect(row).toMatchObject({ status: "upload_started", attempts: 0, failure: null });
    expect(row.dueAt).toBeLessThanOrEqual(Date.now());
    expect([...(await kit.files()).keys()].filter((file) => file.includes(id))).toEqual([]);

    const next = kit.worker({ concurrency: 1 });
    await until(`${id} has ended`, async () => (isFinal(await kit.row(id)) ? true : null));
    next.signal("SIGTERM");
    expect(await next.exit).toEqual({ code: 0, signal: null });
    expect(await kit.row(id)).toMatchObject({
      status: "upload_completed",
      attempts: 1,
      digest: sha256(bytes),
    });
    never.resolve();
  });
});

/** Numbers in [0, 1) that the seed decides. */
function randomNumbers(seed: string): () => number {
  let n = 0;
  return () => seededBytes(`${seed}/${n++}`, 4).readUInt32LE() / 2 ** 32;
}
