/** The public names of @docyard/server, one explicit list. */

export type { App, AppOptions } from "./app.ts";
export { createApp } from "./app.ts";
export type { HostBindings } from "./exchange.ts";
export type { Refusal } from "./faces.ts";
export { refusal } from "./faces.ts";
export type { ReadinessChecks } from "./health.ts";
export type { Logger, RequestLine } from "./log.ts";
