/**
 * Modules that libraries of the bundled program ask for when it starts, and that a start has no use for: something smaller
 * stands in for each. For both bundlers; figures are of an executable's start, which takes 150 ms with them.
 */

const runAtFirstCall = (path) =>
  `export default (...given) => require(${JSON.stringify(path)}).default(...given);`;

const STAND_INS = [
  {
    // yargs lays out its help with them: to load them is to build tables of every locale and every emoji. 30 ms.
    asked: /^(cliui|string-width)$/,
    by: /[\\/]yargs[\\/]lib[\\/]platform-shims[\\/]/,
    contents: runAtFirstCall,
  },
  {
    // Who calls pino, which its transports ask and we have none: to know it V8 counts the lines of the whole program. 6 ms.
    asked: /^\.\/lib\/caller$/,
    by: /[\\/]pino[\\/]pino\.js$/,
    contents: () => "module.exports = () => [];",
  },
  {
    // Pushes to a gateway, which we do not, over TLS: Node reads all root certificates as soon as that is loaded. 20 ms.
    asked: /^\.\/lib\/pushgateway$/,
    by: /[\\/]prom-client[\\/]index\.js$/,
    contents: () => "module.exports = undefined;",
  },
  {
    // To tell requests over HTTP/2 from others: there are none. 4 ms.
    asked: /^node:http2$/,
    by: /[\\/]@hono[\\/]node-server[\\/]dist[\\/]index\.mjs$/,
    contents: () => "export class Http2ServerRequest {}\nexport const constants = {};",
  },
];

/** In what the bundler says it took, they are named so. */
export const STAND_IN = "stand-in";

/** @type {import("esbuild").Plugin} */
export const standIns = {
  name: "stand-ins",
  setup(bundle) {
    for (const { asked, by, contents } of STAND_INS) {
      bundle.onResolve({ filter: asked }, ({ path, importer, resolveDir }) =>
        by.test(importer) ? { path, namespace: STAND_IN, pluginData: { resolveDir } } : null,
      );
      bundle.onLoad({ filter: asked, namespace: STAND_IN }, ({ path, pluginData: { resolveDir } }) => ({
        contents: contents(path),
        resolveDir,
      }));
    }
  },
};
