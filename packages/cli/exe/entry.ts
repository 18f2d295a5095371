/**
 * Where the executable begins: hands the command line over. A script and not a module, because the code that Node
 * embeds may not wait for anything at its top.
 */

import { main } from "../src/main.ts";

void main(process.argv.slice(2));
