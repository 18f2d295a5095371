/**
 * `npm run bench`: docyard beside what this machine can do at best and beside what its users would pick instead, all in
 * one run, in turn, medians of three. Prints ratios, since machines differ; writes everything as JSON, and the growth of
 * the list's answers as a picture. `--write` renews docs/performance.md with them.
 *
 *     npm run bench -- [--quick | --full] [--only NAME…] [--rows N…] [--seconds S] [--postgres] [--write]
 */

import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build, tempFolder } from "../../e2e/program.ts";
import { durablePostgres, filesAtRest, machine } from "../scaling/host.ts";
import { renewed } from "../scaling/report.ts";
import { ingestFromUrl } from "./ingest.ts";
import { measureLimits } from "./limits.ts";
import { nginx, type Peer, receive, settle, tus, uploadLarge } from "./large.ts";
import { growthPicture, type Point } from "./picture.ts";
import { reported, type Row } from "./report.ts";
import { signPages } from "./signing.ts";
import { coldStart, idleMemory, peakMemory } from "./start.ts";
import { composite, docyard, type Subject } from "./subjects.ts";
import type { Measured, Operation } from "./workloads.ts";
import {
  createOnly,
  cursorWalk,
  downloadSmall,
  listing,
  listShapes,
  loop,
  uploadSmall,
} from "./workloads.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    only: { type: "string", multiple: true },
    rows: { type: "string", multiple: true },
    seconds: { type: "string" },
    postgres: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
if (values.write && values.only !== undefined) {
  throw new Error("--write renews every table of docs/performance.md: ask for all of it, without --only");
}
const RUNS = 3;
/**
 * Seconds for which everybody is asked before anything is measured. V8 compiles what is called thousands of times, and
 * until then an upload takes twice the processor time that it takes for the rest of a server's days.
 */
const WARM_SECONDS = 10;
/** Rows up to which others are filled as well: beyond, that takes hours. */
const PEERS_MAX = 1_000_000;
const seconds = Number(values.seconds ?? (values.quick ? 2 : 5));
const sizes = (
  values.rows ??
  (values.full
    ? ["10000", "100000", "1000000", "10000000"]
    : values.quick
      ? ["10000", "100000"]
      : ["10000", "100000", "1000000"])
).map(Number);
const largeMiB = values.quick ? 256 : 1_024;
const wants = (name: string): boolean =>
  values.only === undefined || values.only.some((one) => name.startsWith(one));

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;
const medianOf = (all: readonly Measured[]): Measured => {
  const of = (name: keyof Measured): number => median(all.map((one) => one[name]));
  const refused = all.reduce((sum, one) => sum + one.refused, 0);
  return { rate: of("rate"), p50: of("p50"), p99: of("p99"), cpuUs: of("cpuUs"), refused };
};
const whole = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

const rows: Row[] = [];
let section = "";
function begin(name: string): void {
  section = name;
  say(`\n${name}`);
}
function tell(workload: string, facts: Readonly<Record<string, number>>): void {
  rows.push({ section, workload, facts });
  say(
    `  ${workload.padEnd(34)} ${Object.entries(facts)
      .map(([name, value]) => `${name} ${whole(value)}`)
      .join("   ")}`,
  );
}

/** Every subject in turn, so that a machine that slows down slows them all. The first turn is not counted. */
async function interleaved(
  subjects: readonly Subject[],
  operation: (subject: Subject) => Operation,
  turns: { readonly seconds: number; readonly warmSeconds?: number; readonly connections?: number },
): Promise<Map<string, Measured>> {
  const { warmSeconds = turns.seconds } = turns;
  const operations = new Map(subjects.map((subject) => [subject, operation(subject)]));
  const all = new Map<string, Measured[]>(subjects.map(({ name }) => [name, []]));
  for (const [subject, asked] of operations) await loop(subject, asked, { ...turns, seconds: warmSeconds });
  for (let run = 0; run < RUNS; run++)
    for (const [subject, asked] of operations) all.get(subject.name)!.push(await loop(subject, asked, turns));
  const found = new Map([...all].map(([name, measured]) => [name, medianOf(measured)]));
  for (const [name, { refused }] of found) if (refused > 0) say(`  (${name} had no time for ${refused})`);
  return found;
}

function compared(workload: string, found: Map<string, Measured>): void {
  const [own, limit] = [found.get("docyard")!, found.get("composite")];
  tell(workload, {
    "op/s": own.rate,
    "p50 ms": own.p50,
    "p99 ms": own.p99,
    "cpu µs": own.cpuUs,
    ...(own.refused === 0 ? {} : { refused: own.refused }),
    ...(limit === undefined
      ? {}
      : { "composite op/s": limit.rate, "composite cpu µs": limit.cpuUs, ratio: own.rate / limit.rate }),
  });
}

await build();
const folder = await tempFolder();
const growth: Point[] = [];
say(`docyard bench on ${JSON.stringify(machine())}`);
try {
  begin("limits of this machine, now");
  const limits = await measureLimits(folder.path, Math.min(2, seconds));
  tell("limits", {
    "node:http req/s": limits.http,
    "rows/s in 64s": limits.rowsGrouped,
    "rows/s single": limits.rowsSingle,
    "sha256 MiB/s": limits.sha256,
    "write+sync MiB/s": limits.writeAndSync,
  });

  if (wants("write")) {
    begin("small requests, 16 connections");
    const subjects = [await docyard(0), await composite(0)];
    for (const subject of subjects) await filesAtRest(subject.folder);
    const turns = { seconds, warmSeconds: WARM_SECONDS };
    compared("create", await interleaved(subjects, createOnly, turns));
    compared("upload 10 KiB, end to end", await interleaved(subjects, uploadSmall, turns));
    const own = subjects[0]!;
    const download = await downloadSmall(own);
    compared("download 10 KiB, verified", await interleaved([own], () => download, turns));
    tell("peak memory so far", { MiB: (await peakMemory(own.pid)) / 1024 ** 2 });
    for (const subject of subjects) await subject.stop();
    const ingested = await ingestFromUrl(Math.round(seconds * 200));
    tell("ingest 10 KiB from a URL", { "op/s": ingested.rate, "cpu µs": ingested.cpuUs });
  }

  if (wants("list"))
    for (const size of sizes) {
      begin(`lists of ${size} rows, 16 connections`);
      const filled = performance.now();
      const arePeersIn = size <= PEERS_MAX;
      const subjects = [await docyard(size), ...(arePeersIn ? [await composite(size)] : [])];
      const { size: bytes } = await stat(join(subjects[0]!.folder, "docyard.db"));
      const database = values.postgres && arePeersIn ? await durablePostgres() : null;
      if (database !== null) {
        subjects.push(await docyard(size, [], { url: database.url, name: "postgres" }));
        // What it would do by itself in the next minutes, beside what is measured.
        await database.query("vacuum analyze");
        await database.query("checkpoint");
      }
      say(`  (filled in ${((performance.now() - filled) / 1_000).toFixed(0)} s)`);
      tell("database", { "bytes a row": bytes / size });
      const shapes = Object.entries(listShapes(size)).map(
        ([name, query]) => [name, (subject: Subject) => listing(subject, query)] as const,
      );
      if (arePeersIn)
        for (const subject of subjects)
          for (const [, operation] of shapes)
            await loop(subject, operation(subject), { seconds: WARM_SECONDS / shapes.length });
      for (const [name, operation] of [...shapes, ["cursor walk", cursorWalk] as const]) {
        // The composite has no cursors.
        const some =
          name === "cursor walk" ? subjects.filter(({ name: who }) => who !== "composite") : subjects;
        if (!arePeersIn) {
          // What nobody has asked since the start is counted once, for seconds: told by itself.
          const [own] = subjects;
          const asked = await loop(own!, operation(own!), { seconds: seconds * 2 });
          compared(`${name}, at first`, new Map([["docyard", asked]]));
        }
        compared(name, await interleaved(some, operation, { seconds: seconds / 2 }));
        const alone = await interleaved(some, operation, { seconds: seconds / 4, connections: 1 });
        for (const [subject, { p50 }] of alone) growth.push({ shape: name, rows: size, subject, p50 });
      }
      for (const subject of subjects) await subject.stop();
      await database?.stop();
    }

  if (wants("large")) {
    begin(`${largeMiB} MiB, one at a time, MiB/s`);
    const modes = ["full", "chunks", "off"] as const;
    const own = new Map<string, Subject>();
    for (const mode of modes) own.set(mode, await docyard(0, ["--verify-reads", mode]));
    const limit = await composite(0);
    const peers = [await nginx(folder.path), await tus(folder.path)].filter(
      (peer): peer is Peer => peer !== null,
    );
    const ups = new Map<string, number[]>();
    const downs = new Map<string, number[]>();
    const note = (to: Map<string, number[]>, name: string, rate: number): void =>
      void to.set(name, [...(to.get(name) ?? []), rate]);
    const downloads = new Map<string, string>();
    for (const [mode, subject] of own) downloads.set(mode, (await uploadLarge(subject, largeMiB)).download);
    // The first round is not counted, as elsewhere.
    for (let run = 0; run <= RUNS; run++) {
      if (run === 1) for (const rates of [ups, downs]) rates.clear();
      const up = async (name: string, upload: () => Promise<number>): Promise<void> => {
        await settle();
        note(ups, name, await upload());
      };
      await up("docyard", async () => (await uploadLarge(own.get("full")!, largeMiB)).rate);
      await up("composite", async () => (await uploadLarge(limit, largeMiB)).rate);
      for (const peer of peers) await up(peer.name, () => peer.upload(largeMiB));
      await settle();
      // Each takes a second and varies by half: more of them, in turn.
      for (let again = 0; again < RUNS; again++) {
        for (const [mode, url] of downloads) note(downs, mode, await receive(url, largeMiB));
        for (const peer of peers)
          if (peer.download !== undefined) note(downs, peer.name, await peer.download(largeMiB));
      }
    }
    const of = (from: Map<string, number[]>): Record<string, number> =>
      Object.fromEntries([...from].map(([name, rates]) => [name, median(rates)]));
    const [up, down] = [of(ups), of(downs)];
    tell("upload", { ...up, "ratio to composite": up["docyard"]! / up["composite"]! });
    tell("download", {
      ...down,
      "chunks / off": down["chunks"]! / down["off"]!,
      "full / off": down["full"]! / down["off"]!,
      ...(down["nginx"] === undefined ? {} : { "off / nginx": down["off"]! / down["nginx"] }),
    });
    for (const subject of [...own.values(), limit]) await subject.stop();
    for (const peer of peers) await peer.stop();
  }

  if (wants("start")) {
    begin("start and rest");
    const starts: number[] = [];
    const used = await tempFolder();
    for (let i = 0; i < 9; i++) starts.push(await coldStart(used.path));
    await used.remove();
    tell("cold start, used folder, ms", { median: median(starts), least: Math.min(...starts) });
    const signed = signPages();
    tell("1,000 signed URLs, ms", { median: median(signed), least: Math.min(...signed) });
    tell("idle memory, MiB", { rss: (await idleMemory()) / 1024 ** 2 });
  }
} finally {
  await folder.remove();
}

const out = new URL("../results/", import.meta.url);
const report = reported({ machine: machine(), at: new Date(), seconds, rows, growth });
for (const [title, text] of report) if (title.startsWith("growth")) say(`\n${title}\n${text}`);
await mkdir(out, { recursive: true });
await writeFile(
  new URL("speed.json", out),
  `${JSON.stringify({ machine: machine(), seconds, rows, growth }, null, 2)}\n`,
);
await writeFile(new URL("growth.svg", out), growthPicture(growth));
say("\nwritten: tests/bench/results/speed.json, growth.svg");
if (values.write) {
  const docs = new URL("../../../docs/", import.meta.url);
  const page = new URL("performance.md", docs);
  await writeFile(page, renewed(await readFile(page, "utf8"), report));
  if (growth.length > 0) await writeFile(new URL("growth.svg", docs), growthPicture(growth));
  say("renewed: docs/performance.md");
}
