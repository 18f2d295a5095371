/** docyard-server from the sources, so that nothing has to be built: the same command line, the same process. */

import { main } from "@docyard/cli";

await main(process.argv.slice(2));
