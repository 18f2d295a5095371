/**
 * What is asked of every subject, as closed loops: each connection asks again when it has its answer. Knows rates,
 * latencies and processor time; what the numbers mean is `main.ts`.
 */

import { randomBytes, randomInt } from "node:crypto";
import { processorUs } from "../scaling/host.ts";
import type { Connection } from "./connection.ts";
import { openConnection, Refused } from "./connection.ts";
import { KINDS, PER_PATIENT } from "./facts.ts";
import type { ListQuery, Subject } from "./subjects.ts";

export const CONNECTIONS = 16;
const SMALL_BYTES = 10 * 1024;
/** Artifacts that small downloads are of, in turn. */
const DOWNLOADED = 200;

export interface Measured {
  /** Operations a second. */
  readonly rate: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Microseconds of the server's processor time for one operation. */
  readonly cpuUs: number;
  /** Operations that the server had no time for; no other number knows of them. */
  readonly refused: number;
}

/** One operation on one connection. */
export type Operation = (to: Connection, i: number) => Promise<unknown>;

/** So many seconds on so many connections, after a tenth of it to warm up. */
export async function loop(
  subject: Subject,
  operation: Operation,
  { seconds, connections = CONNECTIONS }: { readonly seconds: number; readonly connections?: number },
): Promise<Measured> {
  await turn(subject, operation, seconds / 10, connections);
  const before = await processorUs(subject.pid);
  const from = performance.now();
  const { took, refused } = await turn(subject, operation, seconds, connections);
  const spent = (performance.now() - from) / 1_000;
  const cpu = (await processorUs(subject.pid)) - before;
  took.sort((a, b) => a - b);
  const at = (part: number): number =>
    took[Math.min(took.length - 1, Math.floor(took.length * part))] ?? Number.NaN;
  return { rate: took.length / spent, p50: at(0.5), p99: at(0.99), cpuUs: cpu / took.length, refused };
}

let count = 0;

/** On connections of its own: a server hangs up on those that wait for the slowest of the turn before. */
async function turn(
  { url }: Subject,
  operation: Operation,
  seconds: number,
  connections: number,
): Promise<{ readonly took: number[]; readonly refused: number }> {
  const open = await Promise.all(Array.from({ length: connections }, () => openConnection(url)));
  const until = performance.now() + seconds * 1_000;
  const took: number[] = [];
  let refused = 0;
  try {
    await Promise.all(
      open.map(async (connection) => {
        do {
          const from = performance.now();
          try {
            await operation(connection, ++count);
            took.push(performance.now() - from);
          } catch (error) {
            if (!(error instanceof Refused)) throw error;
            refused++;
          }
        } while (performance.now() < until);
      }),
    );
  } finally {
    for (const connection of open) connection.close();
  }
  return { took, refused };
}

export function createOnly(subject: Subject): Operation {
  return (to, i) => subject.create(to, i);
}

/** Create, PUT and complete of bytes that nobody has sent before. */
export function uploadSmall(subject: Subject): Operation {
  return async (to, i) => {
    const begun = await subject.create(to, i);
    await subject.put(to, begun, randomBytes(SMALL_BYTES));
    await subject.complete(to, begun);
  };
}

/** Verified downloads of 10 KiB by signed URL, of 200 artifacts that are uploaded first. */
export async function downloadSmall(subject: Subject): Promise<Operation> {
  const connection = await openConnection(subject.url);
  const upload = uploadSmall(subject);
  for (let i = 0; i < DOWNLOADED; i++) await upload(connection, ++count);
  const targets: string[] = [];
  while (targets.length < DOWNLOADED) {
    const { data } = await subject.list(connection, { limit: 100, offset: targets.length });
    for (const { downloadUrl } of data) {
      const { pathname, search } = new URL(downloadUrl);
      targets.push(pathname + search);
    }
  }
  connection.close();
  return async (from, i) => {
    const { status, body } = await from.ask(`GET ${targets[i % targets.length]!}`, "");
    if (status !== 200 || body.length !== SMALL_BYTES) throw new Error(`a download answered ${status}`);
  };
}

/** The list's shapes at so many rows. */
export function listShapes(rows: number): Readonly<Record<string, () => ListQuery>> {
  const kind = (): string => KINDS[randomInt(KINDS.length)]!;
  return {
    "first page": () => ({ limit: 20 }),
    "metadata, rare": () => ({ metadata: { patientId: `p${randomInt(1, rows / PER_PATIENT)}` } }),
    "metadata, broad": () => ({ metadata: { kind: kind() } }),
    "two fields": () => ({ metadata: { kind: kind(), ward: `w${randomInt(100)}` } }),
    "name, rare": () => ({ search: String(randomInt(1, rows)).padStart(9, "0") }),
    "name, broad": () => ({ search: kind() }),
    "name, old": () => ({ search: oldName(rows) }),
    "name, middle": () => ({ search: kind(), limit: 20, offset: randomInt(Math.floor(rows / KINDS.length)) }),
    "deep offset": () => ({ limit: 20, offset: Math.floor(rows * 0.9) }),
  };
}

/** A part of a hundredth of the names, of rows that were made one after the other and long ago. */
function oldName(rows: number): string {
  const digits = Math.floor(Math.log10(rows)) - 2;
  return `-${String(randomInt(10, 40)).padStart(9 - digits, "0")}`;
}

export function listing(subject: Subject, query: () => ListQuery): Operation {
  return async (from) => {
    const { data } = await subject.list(from, query());
    if (data.length === 0) throw new Error("a list that should have rows is empty");
  };
}

/** A walk by cursor that each connection goes on with, from the newest to the oldest and again. */
export function cursorWalk(subject: Subject): Operation {
  const places = new WeakMap<Connection, string>();
  return async (from) => {
    const cursor = places.get(from);
    const { meta } = await subject.list(from, { limit: 100, ...(cursor === undefined ? {} : { cursor }) });
    if (meta.nextCursor == null) places.delete(from);
    else places.set(from, meta.nextCursor);
  };
}
