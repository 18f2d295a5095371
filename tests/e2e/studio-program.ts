/**
 * `docyard-server` from its sources, with a patience that tests have: leases and waits of a fraction of a second, and
 * any number of attempts. Everything else is the real program; no operator needs these knobs.
 *
 * DOCYARD_TEST_INGEST holds them as JSON: IngestSettings in part.
 */

import { main } from "@docyard/cli";
import { DEFAULT_SETTINGS, type SettingsInput } from "@docyard/core";

Object.assign(
  DEFAULT_SETTINGS.ingest,
  JSON.parse(process.env["DOCYARD_TEST_INGEST"] ?? "{}") as NonNullable<SettingsInput["ingest"]>,
);
await main(process.argv.slice(2));
