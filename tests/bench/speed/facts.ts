/**
 * The artifacts that every store is filled with, by number: each fact a pure function of it, so that all stores hold
 * the same and every query's answer is known.
 */

import { createHash } from "node:crypto";

export const KINDS: readonly string[] = [
  "alpha",
  "bravo",
  "charlie",
  "delta",
  "echo",
  "foxtrot",
  "golf",
  "hotel",
];
/** Artifacts that one patient has: what a rare query finds. */
export const PER_PATIENT = 10;
const WARDS = 100;
const FIRST_AT = Date.UTC(2026, 0, 1);

export interface Facts {
  readonly id: string;
  readonly filename: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly size: number;
  readonly digest: string;
  readonly createdAt: number;
}

/** `n` counts from 1. */
export function facts(n: number): Facts {
  const name = String(n).padStart(9, "0");
  return {
    id: `art_${name.padStart(26, "0")}`,
    filename: `report-${name}-${kindOf(n)}.pdf`,
    metadata: {
      patientId: `p${Math.floor(n / PER_PATIENT)}`,
      kind: kindOf(n),
      ward: `w${Math.floor(n / KINDS.length) % WARDS}`,
    },
    size: 10_240,
    digest: createHash("sha256").update(name).digest("hex"),
    createdAt: FIRST_AT + n * 1_000,
  };
}

function kindOf(n: number): string {
  return KINDS[n % KINDS.length]!;
}
