/**
 * Libraries that the bundled program calls for help texts alone: run when they are first called, not when the program
 * starts. yargs lays out its help with them, and to load them is to build tables of every locale and every emoji: 25 of
 * the 220 ms of a start.
 */

const LIBRARIES = /^(cliui|string-width)$/;
/** The only one who asks for them so early. */
const IMPORTER = /[\\/]yargs[\\/]lib[\\/]platform-shims[\\/]/;

/** In what the bundler says it took, their stand-ins are named so. */
export const STAND_IN = "stand-in";

/** @type {import("esbuild").Plugin} */
export const lateLibraries = {
  name: "late libraries",
  setup(bundle) {
    bundle.onResolve({ filter: LIBRARIES }, ({ path, importer, resolveDir }) =>
      IMPORTER.test(importer) ? { path, namespace: STAND_IN, pluginData: { resolveDir } } : null,
    );
    // The bundler makes a module that is asked for with `require` wait for the first who does.
    bundle.onLoad({ filter: LIBRARIES, namespace: STAND_IN }, ({ path, pluginData: { resolveDir } }) => ({
      contents: `export default (...given) => require(${JSON.stringify(path)}).default(...given);`,
      resolveDir,
    }));
  },
};
