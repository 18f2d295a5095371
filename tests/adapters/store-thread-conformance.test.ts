/** A SQLite file that a thread writes keeps the contracts of the store ports, too. */

import { testAccountStore } from "@docyard/adapters/conformance/account-store";
import type { OpenStore } from "@docyard/adapters/conformance/artifact-store";
import { testArtifactStore } from "@docyard/adapters/conformance/artifact-store";
import { testStoreRecords } from "@docyard/adapters/conformance/store-records";
import { openSqliteFile } from "./store-files.ts";

const open = (): Promise<OpenStore> => openSqliteFile({ writerThread: { crowd: 0 } });

testArtifactStore("sqlite, written by a thread", open);
testAccountStore("sqlite, written by a thread", open);
testStoreRecords("sqlite, written by a thread", open);
