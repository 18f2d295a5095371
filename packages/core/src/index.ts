/** The public names of @docyard/core, one explicit list. */

export * from "./errors.ts";
export * from "./json.ts";
export * from "./artifact.ts";
export * from "./access.ts";
export * from "./filter.ts";
export * from "./page.ts";
export * from "./id.ts";
export * from "./quota.ts";
export type * from "./ports.ts";
export type * from "./ports-ingest.ts";
export type { IngestSettings, Settings, SettingsInput } from "./context.ts";
export { DEFAULT_SETTINGS } from "./context.ts";
export type { Completed, CompleteInput, Created, CreateInput } from "./upload.ts";
export type { Listed, ListInput } from "./catalog.ts";
export type {
  StudioCreateInput,
  StudioDock,
  StudioFragmentInput,
  StudioListed,
  StudioListInput,
} from "./studio.ts";
export { FRAGMENTS_MAX, parseS3Path } from "./studio.ts";
export type { IngestOptions, IngestOutcome, IngestPorts } from "./ingest.ts";
export type { GarbageOptions, GarbageReport } from "./gc.ts";
export type { Keyring, Sealer } from "./secrets.ts";
export { createSealer } from "./secrets.ts";
export type { SweepOptions, SweepReport } from "./upkeep.ts";
export * from "./docyard.ts";
export * from "./provision.ts";
