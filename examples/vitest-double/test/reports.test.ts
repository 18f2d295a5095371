/** Reports against docyard's test double: the production core and app, in memory, with a clock and faults of ours. */

import { type TestDouble, testDouble } from "@docyard/adapters/testing";
import { createClient, type DockClient } from "@docyard/client";
import { createApp } from "@docyard/server";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fileReport, readReports } from "../src/reports.ts";

let docyard: TestDouble;
let dock: DockClient;

beforeEach(async () => {
  docyard = await testDouble(createApp);
  const { url: baseUrl, fetch, client } = docyard;
  const { clientId, clientSecret } = client;
  const now = (): number => docyard.now();
  const connected = createClient({ baseUrl, fetch, now, clientId, clientSecret, retry: { attempts: 1 } });
  dock = connected.dock(docyard.dock.id);
});
afterEach(() => docyard.close());

test("reports are read as they were filed, newest first", async () => {
  await fileReport(dock, "12345", "Blood count: fine.");
  await docyard.advance("1h");
  await fileReport(dock, "12345", "Blood count: still fine.");
  await fileReport(dock, "99999", "Somebody else's.");
  expect(await readReports(dock, "12345")).toEqual(["Blood count: still fine.", "Blood count: fine."]);
});

test("the same report is kept once", async () => {
  const first = await fileReport(dock, "12345", "Blood count: fine.");
  expect(await fileReport(dock, "12345", "Blood count: fine.")).toBe(first);
});

test("a report that nobody could store is an error, and is not there", async () => {
  docyard.faults.fail("artifacts.insert");
  await expect(fileReport(dock, "12345", "Blood count: fine.")).rejects.toMatchObject({ status: 500 });
  expect(await readReports(dock, "12345")).toEqual([]);
});
