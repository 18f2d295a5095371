/**
 * The public names of the test double, one explicit list. It lives beside the drivers because it is made of them; the
 * app comes from its caller, so that drivers go on knowing no server (decision 16).
 */

export type { DoubleAccounts } from "./testing/accounts.ts";
export type { TimeSpan } from "./testing/clock.ts";
export type { Snapshot, TestDouble, TestDoubleOptions } from "./testing/double.ts";
export { testDouble } from "./testing/double.ts";
export type { Fault, Faults, FaultyPorts, Moment, PortCall, Which } from "./testing/faults.ts";
export { Crashed, InjectedFault, PORT_CALLS } from "./testing/faults.ts";
export type { SeedArtifact } from "./testing/fill.ts";
export { textBody, textMedia } from "./testing/media.ts";
export type { AppParts, FetchApp, HostBindings } from "./testing/process.ts";
export type { FakeSource, FakeSources } from "./testing/sources.ts";
