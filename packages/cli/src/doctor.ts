/**
 * `docyard-server doctor`: tries what the options name, part by part, and says what is wrong and how to mend it.
 * What to try on a database, a bucket or a Redis is their drivers' to know; disk, files and the public URL are tried here.
 */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Finding } from "@docyard/adapters/probe";
import { failing, ok, warning } from "@docyard/adapters/probe";
import { FINAL_PREFIX } from "@docyard/core";
import type { Answer } from "./command.ts";
import type { Config } from "./config.ts";
import { probeFolder, probeSqlite } from "./doctor-files.ts";
import { probePublicUrl } from "./doctor-url.ts";
import { sqliteOptions } from "./drivers.ts";
import { EXIT_FAILURE, reasonOf } from "./failure.ts";
import { blobScheme, postgresOptions, s3Options, schemeOf, sqliteFile } from "./targets.ts";

type Part = "store" | "blobs" | "queue" | "public url";

/** A finding, and which part of docyard it is about: the shape that scripts rely on. */
interface PartFinding extends Finding {
  readonly part: Part;
}

/** Sets the exit code to 1 when something fails; warnings leave it 0. Changes nothing that it looks at. */
export async function doctor(config: Config): Promise<Answer> {
  const parts: readonly (readonly [Part, () => Promise<Finding[]>])[] = [
    ["store", () => probeStore(config)],
    ["blobs", () => probeBlobs(config)],
    ["queue", () => probeQueue(config)],
    ["public url", () => probePublicUrl(config)],
  ];
  const findings: PartFinding[] = [];
  // One after the other: what reads a whole database keeps the others from seeing their answers in time.
  for (const [part, probe] of parts) {
    for (const finding of await safely(probe)) findings.push({ part, ...finding });
  }
  const isHealthy = findings.every(({ outcome }) => outcome !== "failing");
  if (!isHealthy) process.exitCode = EXIT_FAILURE;
  return { document: { healthy: isHealthy, findings }, text: print(findings) };
}

/** A value of an option that cannot be read is a finding among the others. */
async function safely(probe: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await probe();
  } catch (error) {
    return [failing("option", reasonOf(error), "see docyard-server --help")];
  }
}

async function probeStore({ db, queue }: Config): Promise<Finding[]> {
  switch (schemeOf(db)) {
    case "postgres": {
      const { probePostgres } = await import("@docyard/adapters/store/postgres-probe");
      const findings = await probePostgres(postgresOptions(db));
      return schemeOf(queue) === "memory" ? [...findings, ALONE] : findings;
    }
    case "sqlite":
      return probeSqlite(sqliteOptions(db));
    case "memory":
      return [forgotten("--db")];
    default:
      return [failing("option", "--db names no driver", "write sqlite:FILE or postgres://…")];
  }
}

/** One process may well use it so; more than one may not. */
const ALONE: Finding = warning(
  "replicas",
  "each process would count limits and announce work by itself",
  "give all replicas one --queue redis://…, or run one process",
);

async function probeBlobs(config: Config): Promise<Finding[]> {
  switch (blobScheme(config.blob)) {
    case "folder": {
      const findings = await probeFolder(config.blob, config.maxSize);
      return isWithoutBytes(config) ? [...findings, EMPTY] : findings;
    }
    case "s3": {
      const { probeS3 } = await import("@docyard/adapters/blob/s3-probe");
      return probeS3(s3Options(config.blob));
    }
    case "memory":
      return [forgotten("--blob")];
    default:
      return [failing("option", "--blob names no driver", "write a folder or s3://BUCKET")];
  }
}

function isWithoutBytes({ db, blob }: Config): boolean {
  return (
    schemeOf(db) === "sqlite" &&
    existsSync(resolve(sqliteFile(db))) &&
    !existsSync(resolve(blob, FINAL_PREFIX))
  );
}

/** Whether it should be so, the rows know, and nobody is to open those here. */
const EMPTY: Finding = warning(
  "bytes",
  "none are there, and a database is",
  "before the first artifact that is right; else mount the disk of --blob, or correct it: a server will not start so",
);

async function probeQueue({ queue }: Config): Promise<Finding[]> {
  switch (schemeOf(queue)) {
    case "redis":
    case "rediss": {
      const { probeRedis } = await import("@docyard/adapters/redis-probe");
      return probeRedis(queue);
    }
    case "memory":
      return [ok("memory", "inside the server: nothing to try")];
    default:
      return [failing("option", "--queue names no driver", "write memory or redis://…")];
  }
}

function forgotten(flag: string): Finding {
  return warning(
    "memory",
    "everything is gone when the server stops",
    `set ${flag} unless this is for tests`,
  );
}

const MARKS: Readonly<Record<Finding["outcome"], string>> = {
  ok: "ok",
  warning: "warning",
  failing: "FAILING",
};

/** One line for each finding, and a second one that says what to do. */
function print(findings: readonly PartFinding[]): string {
  const lines = findings.map(({ part, check, outcome, detail, fix }) => {
    const line = `${MARKS[outcome].padEnd(8)} ${part.padEnd(11)} ${check}: ${detail}\n`;
    return fix === undefined ? line : `${line}${" ".repeat(21)}→ ${fix}\n`;
  });
  const count = (outcome: Finding["outcome"]): number =>
    findings.filter((finding) => finding.outcome === outcome).length;
  return `${lines.join("")}\n${count("failing")} failing, ${count("warning")} warnings, ${count("ok")} ok\n`;
}
