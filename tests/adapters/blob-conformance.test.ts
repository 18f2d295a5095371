/** The blob stores that need no service keep the port's contract, in every mode of verification. */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { redeemBy, testBlobStore } from "@docyard/adapters/conformance/blob-store";
import { BASE_URL, openDiskForSuite, SECRET } from "./blob-harness.ts";

const traits = { urls: "serve", attests: true } as const;

testBlobStore(
  "memory",
  async () => {
    let turned = 0;
    const blobs = memoryBlobs({ baseUrl: () => BASE_URL, secret: SECRET, now: () => Date.now() + turned });
    return {
      blobs,
      redeem: redeemBy(blobs.serve),
      leftovers: async () => {
        const isOpen = await blobs.ready().then(
          () => true,
          () => false,
        );
        return isOpen ? (await blobs.list("", { limit: 1_000 })).map(({ key }) => key) : [];
      },
      wait: async (ms) => {
        turned += ms;
      },
      close: () => blobs.close(),
    };
  },
  traits,
);

testBlobStore("disk", () => openDiskForSuite(), traits);
