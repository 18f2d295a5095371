/** The public names of @docyard/core, one explicit list. */

export * from "./errors.ts";
export * from "./json.ts";
export * from "./artifact.ts";
export * from "./access.ts";
export * from "./filter.ts";
export * from "./page.ts";
export * from "./id.ts";
export type * from "./ports.ts";
export type { Settings } from "./context.ts";
export { DEFAULT_SETTINGS } from "./context.ts";
export type { Completed, CompleteInput, Created, CreateInput } from "./upload.ts";
export type { Listed, ListInput } from "./catalog.ts";
export type { SweepOptions, SweepReport } from "./upkeep.ts";
export * from "./docyard.ts";
export * from "./provision.ts";
