/** The Studio face's contract, once through the app alone and once through Node's own HTTP server on a socket. */

import { studioCases } from "./studio-cases.ts";
import { openNodeStudioHarness, openStudioHarness } from "./studio-harness.ts";

studioCases("memory adapters", () => openStudioHarness());
studioCases("memory adapters behind node:http", () => openNodeStudioHarness());
