/**
 * A fleet at work for some simulated minutes: requests arrive by chance, docks differ in size, and everyone waits for
 * processors, connections and locks. Adds to `model.ts` what arithmetic cannot say: how long requests take.
 */

import type { Gate, Process, Step, World } from "./events.ts";
import { createWorld, seeded } from "./events.ts";
import type { Coefficients, Costs } from "./coefficients.ts";
import type { Deployment, Load } from "./model.ts";
import { busiestShare, plan } from "./model.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** Requests of all kinds that are simulated. */
  readonly requests: number;
  /** Answers of a bucket as measured, milliseconds; one is drawn for each request to it. */
  readonly bucketMs: readonly number[];
}

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Simulated {
  readonly requests: number;
  /** Of the same resources as the model's, by its names. */
  readonly utilisation: Readonly<Record<string, number>>;
  readonly create: Latency;
  readonly complete: Latency;
  readonly list: Latency;
  /** Share of the requests of the first nine tenths of the time that ended in it: below 1 when the fleet cannot keep up. */
  readonly finished: number;
}

/** What happens before this share of the time is not counted: the fleet starts empty. */
const WARM_UP = 0.1;
/** Requests that begin later need not have ended. */
const EARLY = 0.9;
const MIB = 1024 ** 2;

type Kind = "create" | "complete" | "list";
interface Replica {
  readonly processor: Gate;
  readonly pool: Gate;
}
interface Fleet {
  readonly world: World;
  readonly c: Coefficients;
  readonly processorUs: Costs;
  readonly replicas: readonly Replica[];
  readonly databases: readonly Gate[];
  readonly locks: Map<number, Gate>;
  /** Exponential with this mean. */
  readonly about: (mean: number) => number;
  readonly bucketMs: () => number;
  readonly pick: (below: number) => number;
}

export function simulate(
  load: Load,
  deployment: Deployment,
  c: Coefficients,
  { seed, requests, bucketMs }: SimulationOptions,
): Simulated {
  const random = seeded(seed);
  const about = (mean: number): number => -mean * Math.log(1 - random());
  const world = createWorld();
  const replicas = Array.from({ length: deployment.replicas }, () => ({
    processor: world.gate(1),
    pool: world.gate(deployment.connectionsPerReplica),
  }));
  const databases = Array.from({ length: deployment.databases }, () => world.gate(deployment.databaseCores));
  const locks = new Map<number, Gate>();
  const pick = (below: number): number => Math.floor(random() * below);
  const sample = (): number => bucketMs[pick(bucketMs.length)] ?? 0;
  const complete = c.fleetUs.complete + (load.meanBytes / MIB) * c.fleetUsPerMiB;
  const processorUs = { ...c.fleetUs, complete };
  const fleet = { world, c, processorUs, replicas, databases, locks, about, pick, bucketMs: sample };
  const dockOf = docks(load, random);

  const rates = plan(load, deployment, c).perSecond;
  const all = rates.create + rates.complete + rates.list;
  const untilMs = (requests / all) * 1_000;
  const took: Record<Kind, number[]> = { create: [], complete: [], list: [] };
  let [begun, early, earlyEnded] = [0, 0, 0];
  function* timed(kind: Kind, process: Process): Process {
    const from = world.now();
    const isEarly = from < untilMs * EARLY;
    begun++;
    if (isEarly) early++;
    yield* process;
    took[kind].push(world.now() - from);
    if (isEarly) earlyEnded++;
  }
  function* arrivals(kind: Kind): Process {
    for (;;) {
      yield { holdMs: about(1_000 / rates[kind]) };
      world.start(world.now(), timed(kind, request(fleet, kind, dockOf())));
    }
  }
  for (const kind of Object.keys(took) as Kind[]) if (rates[kind] > 0) world.start(0, arrivals(kind));
  world.run(untilMs * WARM_UP, untilMs);

  const busy = (gates: readonly Gate[]): number =>
    gates.reduce((sum, gate) => sum + gate.busy(), 0) / gates.reduce((sum, gate) => sum + gate.capacity, 0);
  const busiestLock = locks.get(0);
  return {
    requests: begun,
    utilisation: {
      "server processors": busy(replicas.map(({ processor }) => processor)),
      "database processors": Math.max(...databases.map((gate) => busy([gate]))),
      "busiest dock's lock": busiestLock === undefined ? 0 : busy([busiestLock]),
      connections: busy(replicas.map(({ pool }) => pool)),
    },
    create: latency(took.create),
    complete: latency(took.complete),
    list: latency(took.list),
    finished: earlyEnded / Math.max(1, early),
  };
}

function* request(fleet: Fleet, kind: Kind, dock: number): Process {
  const { c, processorUs, replicas, about, bucketMs } = fleet;
  const { processor, pool } = replicas[fleet.pick(replicas.length)]!;
  yield* within(processor, [{ holdMs: about(processorUs[kind] / 1_000) }]);
  if (kind === "complete") {
    const { incoming, docks } = c.bucket;
    // All but the client's own PUT, one after the other.
    const asked = Math.round(incoming.writes + incoming.reads + docks.writes + docks.reads - 1);
    for (let i = 0; i < asked; i++) yield { holdMs: bucketMs() };
  }
  yield { take: pool };
  yield* database(fleet, kind, dock);
  yield { give: pool };
}

/** One visit to the database: part of it on a processor there, the end of it with the dock's lock. */
function* database(fleet: Fleet, kind: Kind, dock: number): Process {
  const { c, databases, locks, world } = fleet;
  const gate = databases[dock % databases.length]!;
  const processorMs = c.databaseUs[kind] / 1_000;
  const lockedMs = kind === "list" ? [] : kind === "create" ? [c.lockedMs.create] : completeLocks(c);
  const total = lockedMs.reduce((sum, ms) => sum + ms, 0);
  const heldMs = Math.max(c.heldMs[kind], processorMs, total);
  const share = processorMs / heldMs;
  yield* visit(fleet, gate, heldMs - total, share);
  let lock = locks.get(dock);
  if (lock === undefined) locks.set(dock, (lock = world.gate(1)));
  for (const ms of lockedMs) {
    yield { take: lock };
    yield* visit(fleet, gate, ms, share);
    yield { give: lock };
  }
}

/** What happens between `created` and `upload_completed` locks for as long as a create, each time. */
function completeLocks({ lockedMs, locksPerArtifact }: Coefficients): number[] {
  const others = Array.from({ length: Math.round(locksPerArtifact) - 2 }, () => lockedMs.create);
  return [...others, lockedMs.complete];
}

/** So many milliseconds, a share of them on a processor of the database. */
function* visit(fleet: Fleet, processors: Gate, ms: number, share: number): Process {
  yield* within(processors, [{ holdMs: fleet.about(ms * share) }]);
  yield { holdMs: fleet.about(ms * (1 - share)) };
}

function* within(gate: Gate, steps: readonly Step[]): Process {
  yield { take: gate };
  yield* steps;
  yield { give: gate };
}

/** Docks by chance, the first the busiest, as `Load.skew` says. */
function docks(load: Load, random: () => number): () => number {
  const shares: number[] = [];
  const first = busiestShare(load);
  for (let k = 1, sum = 0; k <= load.docks; k++) shares.push((sum += first * k ** -load.skew));
  return () => {
    const wanted = random();
    let [low, high] = [0, shares.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (shares[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

function latency(took: number[]): Latency {
  const sorted = took.sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
