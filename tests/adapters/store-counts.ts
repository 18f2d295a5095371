/**
 * The law of totals that are not counted one by one: in a dock of many documents, whose rows leave and join between the
 * questions, combinations of fields have the total that the store in memory counts.
 */

import type { OpenStore } from "@docyard/adapters/conformance/store-records";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { FindQuery, JsonObject, Store } from "@docyard/core";
import * as fc from "fast-check";
import { expect } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

/** Enough that each term below has more documents than are looked up one by one. */
const ROWS = 3_100;
const changed = { type: "artifact.created", at: 0, by: null } as const;

const rows = Array.from({ length: ROWS }, (_, i) =>
  plainArtifact(i, { metadata: { half: i % 2, third: i % 3, fifth: (i * 7) % 5, all: true } }),
);

const filters: fc.Arbitrary<JsonObject> = fc
  .record({ half: fc.nat(1), third: fc.nat(2), fifth: fc.nat(4), all: fc.boolean() }, { requiredKeys: [] })
  .filter((filter) => Object.keys(filter).length > 1);

type Step =
  | { readonly do: "ask"; readonly filter: JsonObject }
  | { readonly do: "leave" | "join"; readonly number: number };

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("ask" as const), filter: filters }) },
  // Few rows, so that some that left come back.
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom("leave" as const, "join" as const), number: fc.nat(3) }),
  },
);

async function take(store: Store, step: Step): Promise<unknown> {
  if (step.do === "ask") {
    const query: FindQuery = {
      dockId: "dock_a",
      face: "machine",
      statuses: ["upload_completed"],
      filter: step.filter,
      start: { offset: 0 },
      limit: 3,
    };
    const found = await store.artifacts.find(query);
    return [step, found.total, found.rows.map(({ id }) => id)];
  }
  const { id } = rows[step.number]!;
  const { version } = (await store.artifacts.get({ id }))!;
  const status = step.do === "join" ? "upload_completed" : "upload_failed";
  return (await store.artifacts.update(id, version, { status }, changed))?.status;
}

/** Checks the law; `open` gives an empty store each time. */
export async function checkCounts(open: () => Promise<OpenStore>, numRuns: number): Promise<void> {
  const [subject, model] = [await open(), memoryStore()];
  try {
    for (const store of [subject.store, model]) {
      await store.load(rows.map((artifact) => ({ kind: "artifact", artifact })));
    }
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 40 }), async (taken) => {
        for (const step of taken) expect(await take(subject.store, step)).toEqual(await take(model, step));
      }),
      { numRuns },
    );
  } finally {
    await subject.close();
    await model.close();
  }
}
