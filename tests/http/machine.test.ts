/** The machine face's contract, once through the app alone and once through Node's own HTTP server on a socket. */

import { openHarness } from "./harness.ts";
import { machineCases } from "./machine-cases.ts";
import { machineExpiryCases } from "./machine-expiry-cases.ts";
import { openNodeHarness } from "./node-harness.ts";

machineCases("memory adapters", () => openHarness());
machineExpiryCases("memory adapters", () => openHarness());
machineCases("memory adapters behind node:http", () => openNodeHarness());
machineExpiryCases("memory adapters behind node:http", () => openNodeHarness());
