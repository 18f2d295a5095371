/**
 * What a run of `measure.ts` finds out about a machine, and all that the model knows of docyard's price.
 * Types only; a run's numbers are in the JSON that it writes.
 */

export interface Costs<T = number> {
  readonly create: T;
  readonly complete: T;
  readonly list: T;
}
/** Requests to a bucket by what they are billed and limited as. */
export interface Requests {
  /** PUT, COPY, POST and DELETE. */
  readonly writes: number;
  /** GET and HEAD. */
  readonly reads: number;
}
export interface StoreCost {
  /** Rows inserted or updated by one artifact, by table. */
  readonly rows: Readonly<Record<string, number>>;
  /** Bytes on the disk of one artifact, by table and index. */
  readonly bytes: Readonly<Record<string, number>>;
  /** Bytes of write-ahead log. */
  readonly walBytes: { readonly create: number; readonly complete: number };
}

/** Measured. All times are of one request, and processor time unless they say otherwise. */
export interface Coefficients {
  readonly store: { readonly sqlite: StoreCost; readonly postgres: StoreCost };
  /** Durable writes of the one process, many at once. */
  readonly sqliteWritesPerSecond: number;
  readonly singleUs: Costs & { readonly upload: number; readonly download: number };
  readonly singleUsPerMiB: { readonly upload: number; readonly download: number };
  readonly fleetUs: Costs;
  /** Of one MiB that the fleet reads to verify and publish it. */
  readonly fleetUsPerMiB: number;
  readonly databaseUs: Costs;
  /** How long a request has a connection, and how much of that it keeps others of its dock waiting; milliseconds. */
  readonly heldMs: Costs;
  readonly lockedMs: { readonly create: number; readonly complete: number };
  /** Changes of one artifact, each a transaction that takes its dock's lock. */
  readonly locksPerArtifact: number;
  /** Requests to the bucket of one artifact, by the folder of their keys; clients' own PUT among them. */
  readonly bucket: { readonly incoming: Requests; readonly docks: Requests };
  readonly redis: { readonly perArtifact: number; readonly perList: number; readonly usPerCommand: number };
  /** Syncs of the disk for one artifact of the single stage. */
  readonly syncsPerArtifact: number;
  readonly syncMs: number;
  readonly diskMiBPerSecond: number;
}
