/** Runs the upgrade in processes that die on the way, for both databases; what must hold is in the tests. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { Migrated } from "../../packages/adapters/src/store/migrations.ts";
import { expect } from "vitest";
import { NODE_ARGS } from "../sources.ts";
import type { OldSchema, Words } from "./old-schemas.ts";

const SCRIPT = fileURLToPath(new URL("./store-upgrader.ts", import.meta.url));

/** Statements of each step, by the schema that it leaves. */
const STATEMENTS = {
  1: ["rename to dock_count", "add column artifacts", "insert into dock_count"],
  2: ["rename to listing_count", "create table listing_mark", "insert into listing_mark"],
  3: ["rename to listing_stretch", "add column lowest", "update listing_stretch"],
  4: ["drop index artifact_due", "create index artifact_due on artifact (status"],
} as const;

/** Where the process dies: before each statement of the next step, before the last of all, its record, and the end. */
export function pointsFrom(schema: OldSchema): readonly string[] {
  const points = new Set([...STATEMENTS[schema], STATEMENTS[4].at(-1)!]);
  return [...points, 'insert into "migration"', "when all is done"];
}

async function run(
  { name }: Words,
  target: string,
  kill?: string,
): Promise<{ signal: unknown; out: string }> {
  const values = [...NODE_ARGS, SCRIPT, name, target, ...(kill === undefined ? [] : [kill])];
  const child = spawn(process.execPath, values, { stdio: ["ignore", "pipe", "inherit"] });
  const [out, [, signal]] = await Promise.all([
    text(child.stdout),
    once(child, "close") as Promise<unknown[]>,
  ]);
  return { signal, out };
}

/** Dies there, for certain. */
export async function dieUpgrading(words: Words, target: string, point: string): Promise<void> {
  expect(await run(words, target, point)).toEqual({ signal: "SIGKILL", out: "" });
}

/** So many processes upgrade at once. */
export async function upgrade(words: Words, target: string, processes: number): Promise<Migrated[]> {
  const ended = await Promise.all(Array.from({ length: processes }, () => run(words, target)));
  return ended.map(({ signal, out }) => {
    expect(signal).toBeNull();
    return JSON.parse(out) as Migrated;
  });
}
