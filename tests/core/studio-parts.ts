/**
 * What a Studio's worker works with, as tables: sources by their name, and the test double's media that are text.
 */

import { textBody, textMedia } from "@docyard/adapters/testing";
import type { IngestPorts, Sealer, SourceBody } from "@docyard/core";
import { createSealer, DocyardError } from "@docyard/core";

/** Text to be found, an error to fail with, or what decides at each fetch. */
export type FakeSource = string | Error | (() => string | Error);

/** What the next fetch of a URL, or of an S3 path with `#` and its credentials, finds; anything else is a 404. */
export type FakeSources = Map<string, FakeSource>;

export const testSealer: Sealer = createSealer({ current: "k1", keys: { k1: new Uint8Array(32).fill(1) } });

export function fakeIngest(sources: FakeSources): IngestPorts {
  const open = async (name: string): Promise<SourceBody> => {
    const entry = sources.get(name) ?? new DocyardError("source_failed", "The origin answered 404");
    const found = typeof entry === "function" ? entry() : entry;
    if (found instanceof Error) throw found;
    return textBody(found);
  };
  return {
    fetchUrl: { open, close: async () => {} },
    s3: { open: (path, credentials) => open(`${path}#${credentials}`), close: async () => {} },
    media: textMedia(),
    sealer: testSealer,
  };
}
