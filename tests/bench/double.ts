/**
 * How quick the test double is: from a call to a ready double, and create + upload + complete in a row, once through
 * core and once through the app's HTTP. Prints; judges nothing, since a busy machine proves nothing.
 *
 * Run as `node --conditions=docyard-src tests/bench/double.ts`.
 */

import type { TestDouble } from "@docyard/adapters/testing";
import { testDouble } from "@docyard/adapters/testing";
import { createApp } from "@docyard/server";

const ROUNDS = 5;
const STARTS = 20;
const CYCLES = 3_000;
const UNLIMITED = { limits: { download: { max: 0, windowMs: 1 } } };

/** Time on the CPU, which others on the machine do not lengthen as much as time on the wall. */
async function timed(
  work: () => Promise<void>,
): Promise<{ readonly wallMs: number; readonly cpuMs: number }> {
  const [startedAt, cpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs: performance.now() - startedAt, cpuMs: (user + system) / 1_000 };
}

async function throughCore(double: TestDouble): Promise<void> {
  await double.seed({ artifacts: CYCLES });
}

async function throughHttp(double: TestDouble): Promise<void> {
  const path = `/v1/machine/docks/${double.dock.id}/artifacts`;
  const headers = { Authorization: `Bearer ${double.token}`, "Content-Type": "application/json" };
  for (let i = 0; i < CYCLES; i++) {
    const body = JSON.stringify({ filename: `${i}.txt` });
    const created = await double.fetch(path, { method: "POST", headers, body });
    const { uploadUrl, uploadId } = (await created.json()) as { uploadUrl: string; uploadId: string };
    await double.fetch(uploadUrl, { method: "PUT", body: uploadId });
    const completed = await double.fetch(`${path}/upload/complete`, {
      method: "POST",
      headers,
      body: JSON.stringify({ uploadId }),
    });
    if (completed.status !== 200) throw new Error(await completed.text());
    await completed.arrayBuffer();
  }
}

const print = (what: string, figures: readonly number[], unit: string): void =>
  console.log(
    `${what.padEnd(34)} ${figures.map((figure) => figure.toFixed(1).padStart(8)).join("")} ${unit}`,
  );

const starts: number[] = [];
for (let i = 0; i < STARTS; i++) {
  const { wallMs } = await timed(async () => void (await testDouble(createApp)));
  starts.push(wallMs);
}
print("start, the first", starts.slice(0, 1), "ms");
print("start, median of the others", [starts.slice(1).sort((a, b) => a - b)[STARTS >> 1]!], "ms");

for (const [name, run] of Object.entries({ core: throughCore, HTTP: throughHttp })) {
  const wall: number[] = [];
  const cpu: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const double = await testDouble(createApp, { settings: UNLIMITED });
    const { wallMs, cpuMs } = await timed(() => run(double));
    wall.push((CYCLES / wallMs) * 1_000);
    cpu.push((CYCLES / cpuMs) * 1_000);
    await double.close();
  }
  print(`cycles a second through ${name}`, wall, "by the wall clock");
  print(`cycles a second through ${name}`, cpu, "by the CPU's");
}

const double = await testDouble(createApp);
const day = await timed(() => double.advance("1d"));
print("advance by a day", [day.wallMs], "ms");
await double.close();
