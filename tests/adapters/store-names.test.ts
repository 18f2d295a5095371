/** Long parts of names are looked for by their rarest trigrams, and found exactly. */

import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { expect, test } from "vitest";
import { loadSql } from "../../packages/adapters/src/store/sql-load.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import { drive, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { plainArtifact } from "../arbitraries.ts";
import { checkNames } from "./store-names.ts";

test("law: whatever is searched for, exactly the names that contain it are found", async () => {
  const store = await sqliteStore({ file: ":memory:" });
  try {
    await checkNames(store, process.env["DOCYARD_TEST_FULL"] === "1" ? 300 : 15);
  } finally {
    await store.close();
  }
}, 300_000);

test("of a longer part three trigrams are looked for, which no two characters of it share", async () => {
  const { db, execute } = await openSqlite({ file: ":memory:" });
  const near = Array.from({ length: 20 }, (_, i) => `abc-bcd-cde-def-${i}`);
  const apart = ["abc-cde-efg", "efg-cde-abc"];
  const artifacts = ["abcdefg", ...near, ...apart].map((filename, i) => plainArtifact(i, { filename }));
  drive(loadSql(sqliteDialect)(artifacts.map((artifact) => ({ kind: "artifact", artifact }))), execute);
  const { dockId, face } = artifacts[0]!;
  const { names } = sqliteDialect;
  const search = names.values({ listing: 1, dockId, face, part: "abcdefg", documents: artifacts.length });
  // What comes is compared afterwards.
  expect(drive(names.candidates(search, 100), execute)).toHaveLength(1 + apart.length);
  db.close();
});
