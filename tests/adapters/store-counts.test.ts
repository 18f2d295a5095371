/** Totals of several fields are exact while rows come and go, on SQLite. */

import { test } from "vitest";
import { checkCounts } from "./store-counts.ts";
import { openSqliteFile } from "./store-files.ts";

test("law: what sets of documents say is what counting says", async () => {
  await checkCounts(openSqliteFile, process.env["DOCYARD_TEST_FULL"] === "1" ? 500 : 25);
}, 300_000);
