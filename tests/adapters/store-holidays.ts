/** A name that many rows have, for tests of its pages: how it is asked for, and what must be found, and in which order. */

import type { Artifact } from "@docyard/core";
import { compareNewestFirst } from "@docyard/core";

export const HOLIDAYS = { face: "machine", statuses: ["upload_completed"], search: "holiday" } as const;

export function holidays(all: readonly Artifact[]): Artifact[] {
  return all.filter(({ filename }) => filename.includes("holiday")).sort(compareNewestFirst);
}

export function idsOf(all: readonly Pick<Artifact, "id">[]): string[] {
  return all.map(({ id }) => id);
}
