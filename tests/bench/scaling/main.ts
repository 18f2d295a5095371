/**
 * `npm run bench:scaling [-- --quick] [-- --from FILE] [-- --write]`: measures this machine, or takes an earlier run's measurements,
 * plans and simulates the scenarios, prints the tables and writes everything to .cache/bench/scaling.json;
 * `--write` renews the tables in docs/scaling.md, too.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { measure, type Measured } from "./measure.ts";
import { plan } from "./model.ts";
import { type Outcome, printed, renewed, sectionsOf } from "./report.ts";
import { type Scenario, SCENARIOS } from "./scenarios.ts";
import { simulate } from "./simulation.ts";

/** What `--write` renews. */
const DOCUMENT = join(import.meta.dirname, "../../../docs/scaling.md");
const OUT = join(import.meta.dirname, "../../../.cache/bench/scaling.json");
/** Shares of the load at which the model says that something is full. */
const SHARES = [0.1, 0.5, 0.8, 0.95];
const SEED = 20_261_122;
const seconds = (): string => (performance.now() / 1_000).toFixed(0);

function outcomeOf(scenario: Scenario, { coefficients, bucketMs }: Measured, requests: number): Outcome {
  const { load, deployment } = scenario;
  const planned = plan(load, deployment, coefficients);
  const shares = deployment.stage === "fleet" ? SHARES : [];
  const simulated = shares.map((share) => {
    const factor = share / planned.first.utilisation;
    const scaled = {
      ...load,
      artifactsPerDay: load.artifactsPerDay * factor,
      listsPerSecond: load.listsPerSecond * factor,
    };
    return { share, result: simulate(scaled, deployment, coefficients, { seed: SEED, requests, bucketMs }) };
  });
  return { ...scenario, plan: planned, simulated };
}

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    from: { type: "string" },
  },
});
const measured =
  values.from === undefined
    ? await measure(values.quick, (line) => process.stderr.write(`${seconds()} s: ${line}\n`))
    : (JSON.parse(await readFile(values.from, "utf8")) as Measured);
process.stderr.write(`${seconds()} s: simulation\n`);
const outcomes = SCENARIOS.map((scenario) => outcomeOf(scenario, measured, values.quick ? 10_000 : 100_000));
await mkdir(dirname(OUT), { recursive: true });
await writeFile(OUT, `${JSON.stringify({ ...measured, outcomes }, null, 1)}\n`);
process.stderr.write(`${seconds()} s: done\n`);
const sections = sectionsOf(measured, outcomes);
process.stdout.write(printed(sections));
if (values.write) await writeFile(DOCUMENT, renewed(await readFile(DOCUMENT, "utf8"), sections));
