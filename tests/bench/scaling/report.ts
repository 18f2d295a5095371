/** The tables of docs/scaling.md, as Markdown, from what was measured, planned and simulated. */

import type { Measured } from "./measure.ts";
import type { Plan } from "./model.ts";
import { total } from "./model.ts";
import type { Scenario } from "./scenarios.ts";
import type { Simulated } from "./simulation.ts";

const GIB = 1024 ** 3;

export interface Outcome extends Scenario {
  readonly plan: Plan;
  /** At shares of the load at which the model says that something is full; none for one process. */
  readonly simulated: readonly { readonly share: number; readonly result: Simulated }[];
}

type Cell = string | number;

function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]): string => `| ${cells.map(shown).join(" | ")} |`;
  return [line(head), `|${head.map((_, i) => (i === 0 ? "---" : "--:")).join("|")}|`, ...rows.map(line)].join(
    "\n",
  );
}

/** Three digits that count. */
function shown(cell: Cell): string {
  if (typeof cell === "string") return cell;
  if (cell !== 0 && Math.abs(cell) < 100) return String(Number(cell.toPrecision(3)));
  return Math.round(cell)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, " ");
}

const percent = (share: number): string => `${shown(share * 100)} %`;

/** A title and its Markdown. */
export type Section = readonly [title: string, text: string];

export function sectionsOf(
  { machine, at, command, coefficients: c, details }: Measured,
  outcomes: readonly Outcome[],
): Section[] {
  const { sqlite, postgres, fleet, single, replica } = details;
  const names = [
    ...new Set([...Object.keys(c.store.sqlite.bytes), ...Object.keys(c.store.postgres.bytes)]),
  ].sort();
  const phases = ["create", "upload", "complete", "list", "download"] as const;
  const from = `Measured at ${at} by \`${command}\`, on ${machine.processors} processors (${machine.model}), ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}, load average before ${machine.loadBefore}.`;
  return [
    ["Where and when", from],
    [
      "Rows written by one artifact",
      table(
        ["table", "attested", "verified by a worker"],
        Object.entries(c.store.postgres.rows).map(([name, rows]) => [name, postgres.rows[name]!, rows]),
      ),
    ],
    [
      "Bytes of one artifact",
      table(
        ["table or index", "SQLite", "PostgreSQL"],
        [
          ["(artifacts measured)", sqlite.artifacts, postgres.artifacts],
          ...names.map((name) => [name, ...both(c.store.sqlite.bytes[name], c.store.postgres.bytes[name])]),
          ["**all**", total(c.store.sqlite.bytes), total(c.store.postgres.bytes)],
        ],
      ),
    ],
    [
      "Write-ahead log, bytes",
      table(
        ["", "create", "complete"],
        [
          ["SQLite, one at a time", sqlite.walBytes.create, sqlite.walBytes.complete],
          ["SQLite, 32 at once", sqlite.walBytesTogether.create, sqlite.walBytesTogether.complete],
          ["PostgreSQL", postgres.walBytes.create, postgres.walBytes.complete],
        ],
      ),
    ],
    [
      "Durable writes a second, 32 callers",
      table(
        ["", "create", "complete"],
        [
          ["SQLite, 64 docks", sqlite.manyDocks.create, sqlite.manyDocks.complete],
          ["SQLite, one dock", sqlite.oneDock.create, sqlite.oneDock.complete],
          ["PostgreSQL, 64 docks", postgres.manyDocks.create, postgres.manyDocks.complete],
          ["PostgreSQL, one dock", postgres.oneDock.create, postgres.oneDock.complete],
        ],
      ),
    ],
    [
      "Processor time of a request, µs",
      table(
        ["", ...phases],
        [
          ["server, SQLite and folder", ...phases.map((phase) => single.small[phase].server)],
          ["server, PostgreSQL, S3, Redis", ...phases.map((phase) => replica.small[phase].server)],
          ["PostgreSQL", ...phases.map((phase) => replica.small[phase].database)],
        ],
      ),
    ],
    [
      "Processor time of a MiB, µs",
      table(
        ["", "upload", "complete", "download"],
        [
          ["server, SQLite and folder", single.perMiB.upload, single.perMiB.complete, single.perMiB.download],
          [
            "server, PostgreSQL, S3, Redis",
            replica.perMiB.upload,
            replica.perMiB.complete,
            replica.perMiB.download,
          ],
        ],
      ),
    ],
    ["Requests to the bucket", table(["request", "times"], Object.entries(fleet.methods))],
    [
      "The rest",
      table(
        ["", "value"],
        [
          ["commands of Redis for one artifact", c.redis.perArtifact],
          ["commands of Redis for one list", c.redis.perList],
          ["Redis processor time of a command, µs", c.redis.usPerCommand],
          ["changes of one artifact under its dock's lock", c.locksPerArtifact],
          ["connection held by a create, ms", c.heldMs.create],
          ["connection held by a complete with its verification, ms", c.heldMs.complete],
          ["connection held by a list, ms", c.heldMs.list],
          ["syncs of the disk for one artifact, SQLite and folder", c.syncsPerArtifact],
          ["one sync, ms", c.syncMs],
          ["disk, MiB/s", c.diskMiBPerSecond],
        ],
      ),
    ],
    [
      "What the model says",
      table(
        [
          "deployment",
          "artifacts/day",
          "rows/day",
          "database GiB/day",
          "log GiB/day",
          "blobs GiB/day",
          "syncs/s",
          "connections",
          "bucket requests/month",
          "full first",
          "used",
          "artifacts/day when full",
        ],
        outcomes.map(({ name, load, plan }) => [
          name,
          load.artifactsPerDay,
          plan.rowsPerDay,
          plan.bytesPerDay.database / GIB,
          plan.bytesPerDay.wal / GIB,
          plan.bytesPerDay.blobs / GIB,
          plan.syncsPerSecond,
          plan.connectionsPerDatabase,
          total({ ...plan.bucketPerMonth }),
          plan.first.name,
          percent(plan.first.utilisation),
          plan.artifactsPerDayMax,
        ]),
      ),
    ],
    ...outcomes.map(({ name, plan }): Section => [
      `Resources: ${name}`,
      table(
        ["resource", "demand", "capacity", "", "used"],
        plan.resources.map((r) => [r.name, r.demand, r.capacity, r.unit, percent(r.utilisation)]),
      ),
    ]),
    [
      "What the simulation says",
      table(
        [
          "deployment",
          "share of the model's limit",
          "create p50/p99 ms",
          "complete p50/p99 ms",
          "list p50/p99 ms",
          "servers",
          "database",
          "lock",
          "connections",
          "finished",
        ],
        outcomes.flatMap(({ name, simulated }) =>
          simulated.map(({ share, result: r }) => [
            name,
            percent(share),
            ...[r.create, r.complete, r.list].map(({ p50Ms, p99Ms }) => `${shown(p50Ms)} / ${shown(p99Ms)}`),
            ...["server processors", "database processors", "busiest dock's lock", "connections"].map(
              (resource) => percent(r.utilisation[resource]!),
            ),
            percent(r.finished),
          ]),
        ),
      ),
    ],
  ];
}

export function printed(sections: readonly Section[]): string {
  return sections.map(([title, text]) => `### ${title}\n\n${text}\n`).join("\n");
}

/**
 * A document with its sections renewed: each stands between two comments, of which the first names it.
 * @throws Error for a name that is none
 */
export function renewed(document: string, sections: readonly Section[]): string {
  const texts = new Map(sections);
  return document.replace(
    /(<!-- bench: (.+?) -->\n)[^]*?(\n<!-- end -->)/g,
    (_, before, title: string, after) => {
      const text = texts.get(title);
      if (text === undefined) throw new Error(`there is no section "${title}"`);
      return `${before}${text}${after}`;
    },
  );
}

function both(a: number | undefined, b: number | undefined): Cell[] {
  return [a ?? "–", b ?? "–"];
}
