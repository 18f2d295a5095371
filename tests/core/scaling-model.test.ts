/**
 * Laws of the scaling model and of the simulation beside it: more load never costs less, what is full first stays so,
 * and where nobody has to wait the simulated fleet is as busy as the arithmetic says. Nothing is measured here.
 */

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Coefficients, Requests } from "../bench/scaling/coefficients.ts";
import type { Deployment, Load, Plan } from "../bench/scaling/model.ts";
import { busiestShare, plan, total } from "../bench/scaling/model.ts";
import { createWorld, seeded, type Process } from "../bench/scaling/events.ts";
import { renewed } from "../bench/scaling/report.ts";
import { simulate } from "../bench/scaling/simulation.ts";

const positive = (max: number) => fc.double({ min: max / 1_000, max, noNaN: true });
const requests = (): fc.Arbitrary<Requests> => fc.record({ writes: positive(5), reads: positive(5) });
const costs = (max: number) =>
  fc.record({ create: positive(max), complete: positive(max), list: positive(max) });
const storeCost = () =>
  fc.record({
    rows: fc.dictionary(fc.string(), positive(10), { minKeys: 1, maxKeys: 4 }),
    bytes: fc.dictionary(fc.string(), positive(1_000), { minKeys: 1, maxKeys: 4 }),
    walBytes: fc.record({ create: positive(50_000), complete: positive(50_000) }),
  });
const coefficients = (): fc.Arbitrary<Coefficients> =>
  fc.record({
    store: fc.record({ sqlite: storeCost(), postgres: storeCost() }),
    sqliteWritesPerSecond: positive(10_000),
    singleUs: fc.record({
      create: positive(5_000),
      complete: positive(5_000),
      list: positive(5_000),
      upload: positive(5_000),
      download: positive(5_000),
    }),
    singleUsPerMiB: fc.record({ upload: positive(10_000), download: positive(10_000) }),
    fleetUs: costs(30_000),
    fleetUsPerMiB: positive(20_000),
    databaseUs: costs(10_000),
    heldMs: costs(50),
    lockedMs: fc.record({ create: positive(5), complete: positive(5) }),
    locksPerArtifact: fc.integer({ min: 2, max: 6 }),
    bucket: fc.record({ incoming: requests(), docks: requests() }),
    redis: fc.record({ perArtifact: positive(60), perList: positive(6), usPerCommand: positive(10) }),
    syncsPerArtifact: positive(10),
    syncMs: positive(10),
    diskMiBPerSecond: positive(3_000),
  });
const loads = (): fc.Arbitrary<Load> =>
  fc.record({
    artifactsPerDay: positive(1e8),
    meanBytes: positive(1e9),
    downloadsPerArtifact: positive(20),
    listsPerSecond: positive(5_000),
    docks: fc.integer({ min: 1, max: 2_000 }),
    skew: fc.double({ min: 0, max: 2, noNaN: true }),
    peak: fc.double({ min: 1, max: 10, noNaN: true }),
  });
const deployments = (): fc.Arbitrary<Deployment> =>
  fc.record({
    stage: fc.constantFrom("single", "fleet"),
    replicas: fc.integer({ min: 1, max: 200 }),
    connectionsPerReplica: fc.integer({ min: 1, max: 50 }),
    databases: fc.integer({ min: 1, max: 64 }),
    databaseCores: fc.integer({ min: 1, max: 128 }),
    buckets: fc.integer({ min: 1, max: 64 }),
  });
const all = () => fc.tuple(loads(), deployments(), coefficients());

const used = ({ resources }: Plan): Record<string, number> =>
  Object.fromEntries(resources.map(({ name, utilisation }) => [name, utilisation]));
/** What a plan counts besides its resources. */
const counted = (p: Plan): number[] => [
  p.rowsPerDay,
  p.syncsPerSecond,
  ...Object.values(p.bytesPerDay),
  ...Object.values(p.bucketPerMonth),
  ...Object.values(p.perSecond),
];
const ROUNDING = 1e-9;
/** Resources that are fuller in `a` than in `b`. */
const fuller = (a: Record<string, number>, b: Record<string, number>): string[] =>
  Object.keys(a).filter((name) => !atMost(a[name]!, b[name]!));
const atMost = (a: number, b: number): boolean => a <= b * (1 + ROUNDING);

describe("the model", () => {
  const GROWING = [
    "artifactsPerDay",
    "meanBytes",
    "downloadsPerArtifact",
    "listsPerSecond",
    "skew",
    "peak",
  ] as const;

  test("more of any load never costs less of anything", () => {
    fc.assert(
      fc.property(all(), fc.constantFrom(...GROWING), positive(10), ([load, deployment, c], name, more) => {
        const less = plan(load, deployment, c);
        const grown = plan({ ...load, [name]: load[name] + more }, deployment, c);
        expect(fuller(used(less), used(grown))).toEqual([]);
        counted(less).forEach((value, i) => expect(atMost(value, counted(grown)[i]!)).toBe(true));
        if (name !== "artifactsPerDay")
          expect(atMost(grown.artifactsPerDayMax, less.artifactsPerDayMax)).toBe(true);
      }),
    );
  });

  test("more of any equipment never makes anything fuller", () => {
    const names = ["replicas", "connectionsPerReplica", "databases", "databaseCores", "buckets"] as const;
    fc.assert(
      fc.property(all(), fc.constantFrom(...names), ([load, deployment, c], name) => {
        const before = used(plan(load, deployment, c));
        const after = used(plan(load, { ...deployment, [name]: deployment[name] + 1 }, c));
        expect(fuller(after, before)).toEqual([]);
      }),
    );
  });

  test("resources come fullest first, and at the limit it names the first is full and no other fuller", () => {
    fc.assert(
      fc.property(all(), ([load, deployment, c]) => {
        const now = plan(load, deployment, c);
        const order = now.resources.map(({ utilisation }) => utilisation);
        expect(order).toEqual(order.toSorted((a, b) => b - a));
        expect(now.first).toBe(now.resources[0]);
        const factor = now.artifactsPerDayMax / load.artifactsPerDay;
        const then = plan(
          { ...load, artifactsPerDay: now.artifactsPerDayMax, listsPerSecond: load.listsPerSecond * factor },
          deployment,
          c,
        );
        expect(then.first.utilisation).toBeCloseTo(1, 6);
        expect(used(then)[now.first.name]).toBeCloseTo(1, 6);
      }),
    );
  });

  test("the shares of all docks make a whole, and the busiest has at least an even one", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5_000 }),
        fc.double({ min: 0, max: 3, noNaN: true }),
        (docks, skew) => {
          const first = busiestShare({ docks, skew });
          let sum = 0;
          for (let k = 1; k <= docks; k++) sum += first * k ** -skew;
          expect(sum).toBeCloseTo(1, 9);
          expect(atMost(1 / docks, first)).toBe(true);
        },
      ),
    );
  });

  test("by hand: a thousand artifacts in a thousand seconds", () => {
    const c = fc.sample(coefficients(), { numRuns: 1, seed: 1 })[0]!;
    const load = {
      meanBytes: 1024 ** 2,
      downloadsPerArtifact: 3,
      listsPerSecond: 2,
      docks: 2,
      skew: 0,
      peak: 1,
    };
    const deployment: Deployment = {
      stage: "fleet",
      replicas: 4,
      connectionsPerReplica: 5,
      databases: 2,
      databaseCores: 8,
      buckets: 1,
    };
    const p = plan({ ...load, artifactsPerDay: 86_400 }, deployment, c);
    expect(p.perSecond).toEqual({ create: 1, complete: 1, list: 2, download: 3 });
    expect(p.rowsPerDay).toBeCloseTo(86_400 * total(c.store.postgres.rows), 3);
    expect(p.bytesPerDay.blobs).toBe(86_400 * 1024 ** 2);
    expect(p.connectionsPerDatabase).toBe(10);
    const us = c.fleetUs.create + c.fleetUs.complete + 2 * c.fleetUs.list + c.fleetUsPerMiB;
    expect(used(p)["server processors"]).toBeCloseTo(us / 1e6 / 4, 12);
    const reads = c.bucket.incoming.reads + c.bucket.docks.reads + 3;
    expect(p.bucketPerMonth.reads).toBeCloseTo(30 * 86_400 * reads, 3);
  });
});

describe("simulated time", () => {
  test("a gate lets in as many as it holds, in the order they came", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 20 })), { minLength: 1, maxLength: 30 }),
        (capacity, visits) => {
          const world = createWorld();
          const gate = world.gate(capacity);
          const entered: number[] = [];
          let [inside, most] = [0, 0];
          function* visitor(i: number, holdMs: number): Process {
            yield { take: gate };
            entered.push(i);
            most = Math.max(most, ++inside);
            yield { holdMs };
            inside--;
            yield { give: gate };
          }
          const sorted = visits.toSorted(([a], [b]) => a - b);
          sorted.forEach(([at, holdMs], i) => world.start(at, visitor(i, holdMs)));
          const end = 10_000;
          world.run(0, end);
          expect(entered).toEqual(sorted.map((_, i) => i));
          expect(most).toBeLessThanOrEqual(capacity);
          const held = visits.reduce((sum, [, holdMs]) => sum + holdMs, 0);
          expect(gate.busy()).toBeCloseTo(held / end, 9);
        },
      ),
    );
  });

  test("chance is the same for the same seed, even, and below 1", () => {
    const draw = (seed: number) => Array.from({ length: 20_000 }, seeded(seed));
    const numbers = draw(7);
    expect(draw(7)).toEqual(numbers);
    expect(draw(8)).not.toEqual(numbers);
    expect(numbers.every((n) => n >= 0 && n < 1)).toBe(true);
    expect(numbers.reduce((sum, n) => sum + n, 0) / numbers.length).toBeCloseTo(0.5, 1);
  });
});

describe("the simulation", () => {
  /** Times and counts of the order that a run measures. */
  const c: Coefficients = {
    ...fc.sample(coefficients(), { numRuns: 1, seed: 2 })[0]!,
    fleetUs: { create: 1_000, complete: 10_000, list: 2_000 },
    fleetUsPerMiB: 8_000,
    databaseUs: { create: 600, complete: 4_000, list: 500 },
    heldMs: { create: 3, complete: 20, list: 2 },
    lockedMs: { create: 1, complete: 4 },
    locksPerArtifact: 4,
    bucket: { incoming: { writes: 2, reads: 5 }, docks: { writes: 1, reads: 1 } },
    redis: { perArtifact: 1, perList: 1, usPerCommand: 0.1 },
    diskMiBPerSecond: 1_000,
  };
  const deployment: Deployment = {
    stage: "fleet",
    replicas: 4,
    connectionsPerReplica: 10,
    databases: 1,
    databaseCores: 4,
    buckets: 1,
  };
  const load: Load = {
    artifactsPerDay: 86_400 * 30,
    meanBytes: 1024 ** 2,
    downloadsPerArtifact: 2,
    listsPerSecond: 60,
    docks: 20,
    skew: 1,
    peak: 1,
  };
  const options = { seed: 11, requests: 30_000, bucketMs: [3, 4, 5, 20] };
  /** Chance, and the little waiting there is. */
  const TOLERANCE = 0.15;

  test("at low load every resource is as busy as the model says", () => {
    const planned = used(plan(load, deployment, c));
    const { utilisation, finished } = simulate(load, deployment, c, options);
    const ratios = Object.entries(utilisation).map(([name, share]) => ({
      name,
      ratio: share / planned[name]!,
    }));
    expect(ratios).toHaveLength(4);
    expect(ratios.filter(({ ratio }) => Math.abs(ratio - 1) > TOLERANCE)).toEqual([]);
    expect(finished).toBeGreaterThan(0.99);
  });

  test("the same seed is the same run", () => {
    const few = { ...options, requests: 2_000 };
    expect(simulate(load, deployment, c, few)).toEqual(simulate(load, deployment, c, few));
    expect(simulate(load, deployment, c, { ...few, seed: 12 })).not.toEqual(
      simulate(load, deployment, c, few),
    );
  });

  test("beyond the model's limit the fleet falls behind, and below it not", () => {
    const { first } = plan(load, deployment, c);
    const at = (share: number) => {
      const factor = share / first.utilisation;
      const { artifactsPerDay, listsPerSecond } = load;
      const scaled = {
        ...load,
        artifactsPerDay: artifactsPerDay * factor,
        listsPerSecond: listsPerSecond * factor,
      };
      return simulate(scaled, deployment, c, options);
    };
    const [calm, full] = [at(0.3), at(1.5)];
    expect(calm.finished).toBeGreaterThan(0.99);
    expect(full.finished).toBeLessThan(0.9);
    expect(full.complete.p99Ms).toBeGreaterThan(calm.complete.p99Ms);
    expect(Math.max(...Object.values(full.utilisation))).toBeGreaterThan(0.95);
  });
});

describe("the document's tables", () => {
  const block = (title: string, text: string): string => `<!-- bench: ${title} -->\n${text}\n<!-- end -->`;

  test("are renewed where they stand, however often, and nothing else is touched", () => {
    const text = fc.stringMatching(/^[a-z| $&\n]{0,30}$/);
    fc.assert(
      fc.property(text, text, text, text, text, (before, old, between, first, second) => {
        const page = (a: string, b: string): string =>
          [before, block("A", a), between, block("B b", b), before].join("\n");
        const sections = [["B b", second] as const, ["A", first] as const];
        const once = renewed(page(old, ""), sections);
        expect(once).toBe(page(first, second));
        expect(renewed(once, sections)).toBe(once);
      }),
    );
  });

  test("a title that nothing was measured for is an error", () => {
    expect(() => renewed(block("Nonsense", ""), [["A", ""]])).toThrow("Nonsense");
  });
});
