/**
 * The version of this program, for `--version`, the banner and the health endpoint.
 * The same as in package.json, which a test sees to: a bundle has no package.json to read.
 */

export const VERSION = "0.1.0";
