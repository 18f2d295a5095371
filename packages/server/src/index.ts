/** The public names of @docyard/server, one explicit list. */

export type { App, AppOptions } from "./app.ts";
export { createApp } from "./app.ts";
export type { ReadinessChecks } from "./health.ts";
export type { Logger, RequestLine } from "./log.ts";
