/** The loads and deployments that the tables are about, from one machine to many databases; made up, and round. */

import type { Deployment, Load } from "./model.ts";

export interface Scenario {
  readonly name: string;
  readonly load: Load;
  readonly deployment: Deployment;
}

const MIB = 1024 ** 2;
const LOAD: Load = {
  artifactsPerDay: 10_000,
  meanBytes: MIB,
  downloadsPerArtifact: 2,
  listsPerSecond: 1,
  docks: 10,
  skew: 1,
  peak: 3,
};
const ONE: Deployment = {
  stage: "fleet",
  replicas: 1,
  connectionsPerReplica: 10,
  databases: 1,
  databaseCores: 2,
  buckets: 1,
};

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "1 one machine, SQLite and a folder",
    load: LOAD,
    deployment: { ...ONE, stage: "single" },
  },
  {
    name: "2 one machine, PostgreSQL, S3, Redis",
    load: { ...LOAD, artifactsPerDay: 100_000, listsPerSecond: 5, docks: 50 },
    deployment: ONE,
  },
  {
    name: "3 four replicas",
    load: { ...LOAD, artifactsPerDay: 1_000_000, listsPerSecond: 50, docks: 200 },
    deployment: { ...ONE, replicas: 4, databaseCores: 8 },
  },
  {
    name: "4 sixteen replicas, a large database",
    load: { ...LOAD, artifactsPerDay: 5_000_000, listsPerSecond: 200, docks: 1_000 },
    deployment: { ...ONE, replicas: 16, databaseCores: 32 },
  },
  {
    name: "5 sixteen databases by dock",
    load: { ...LOAD, artifactsPerDay: 50_000_000, listsPerSecond: 2_000, docks: 20_000, skew: 0.7 },
    deployment: { ...ONE, replicas: 160, databases: 16, databaseCores: 32, buckets: 16 },
  },
];
