/** The types of stand-ins.mjs, which is plain JavaScript because the bundler of the built program is. */
import type { Plugin } from "esbuild";

export const STAND_IN: string;
export const standIns: Plugin;
