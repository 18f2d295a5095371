/**
 * A Studio in memory: real core on memory adapters, a clock that is turned by hand, and sources and media that are
 * tables. Media bytes are text here: `video:3000:…` is three seconds of video.
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type {
  BlobStore,
  Docyard,
  IngestPorts,
  IngestSettings,
  Media,
  Queue,
  SourceBody,
  Store,
  StudioDock,
} from "@docyard/core";
import { createDocyard, createProvisioning, createSealer, DocyardError } from "@docyard/core";
import { NOON } from "./rows.ts";

export type FakeSource = string | Error | (() => string | Error);

export interface StudioWorld {
  readonly docyard: Docyard;
  readonly studio: StudioDock;
  readonly apiKey: string;
  readonly store: Store;
  readonly blobs: BlobStore;
  /** What the next fetch of a URL or S3 path finds; anything else is a 404. */
  readonly sources: Map<string, FakeSource>;
  /** Ids that were rung for, in order, delays included. */
  readonly rings: { readonly id: string; readonly delayMs: number }[];
  readonly clock: { now: number };
  /** A further key of another dock of the same organisation. */
  readonly other: StudioDock;
  /** Sends bytes to a presigned URL. */
  put(url: string, text: string): Promise<Response>;
  /** Every key the blob store has. */
  keys(): Promise<string[]>;
  /** The same world through other ports: what a test wraps to make calls fail. */
  through(ports: { readonly store?: Store; readonly blobs?: BlobStore }): Docyard;
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export async function studioWorld(ingest: Partial<IngestSettings> = {}): Promise<StudioWorld> {
  const clock = { now: NOON };
  const now = (): number => clock.now;
  const store = memoryStore();
  const blobs = memoryBlobs({ baseUrl: "http://studio.test", secret: new Uint8Array(32).fill(7), now });
  const rings: StudioWorld["rings"] = [];
  const queue: Queue = {
    push: async (id, { delayMs = 0 } = {}) => void rings.push({ id, delayMs }),
    consume: async () => {},
    ready: async () => {},
    close: async () => {},
  };
  const sources = new Map<string, FakeSource>();
  const open = async (name: string): Promise<SourceBody> => {
    const entry = sources.get(name) ?? new DocyardError("source_failed", "The origin answered 404");
    const found = typeof entry === "function" ? entry() : entry;
    if (found instanceof Error) throw found;
    const bytes = utf8(found);
    return {
      size: bytes.length,
      contentType: null,
      body: (async function* () {
        yield bytes;
      })(),
    };
  };
  const sealer = createSealer({ current: "k1", keys: { k1: new Uint8Array(32).fill(1) } });
  const ports: IngestPorts = {
    fetchUrl: { open, close: async () => {} },
    s3: { open: (path, credentials) => open(`${path}#${credentials}`), close: async () => {} },
    media: textMedia,
    sealer,
  };
  const through: StudioWorld["through"] = (over) =>
    createDocyard({
      store,
      blobs,
      queue,
      limit: memoryLimit({ now }),
      now,
      ingest: ports,
      settings: { ingest, limits: { studio: { max: 0, windowMs: 1 }, studioDaily: { max: 0, windowMs: 1 } } },
      ...over,
    });
  const docyard = through({});
  const provisioning = createProvisioning(store.accounts, { now });
  await provisioning.createOrganization("Acme");
  await provisioning.createDock("dock_a");
  await provisioning.createDock("dock_b");
  const { key, apiKey } = await provisioning.createKey({ name: "editor", dockId: "dock_a" });
  await store.accounts.update("key", key.id, {
    s3Credentials: await sealer.seal("the credentials", key.id),
  });
  const foreign = await provisioning.createKey({ name: "other", dockId: "dock_b" });
  return {
    docyard,
    studio: await docyard.openStudio(apiKey),
    apiKey,
    store,
    blobs,
    sources,
    rings,
    clock,
    other: await docyard.openStudio(foreign.apiKey),
    put: (url, text) => blobs.serve.fetch(new Request(url, { method: "PUT", body: text }), docyard.blobHost),
    keys: async () => (await blobs.list("", { limit: 1_000 })).map(({ key }) => key),
    through,
  };
}

const textOf = async (input: Parameters<Media["probe"]>[0]): Promise<string> =>
  new TextDecoder().decode(await input.read(0, input.size));

/** `video:3000:anything`: a kind, a duration in milliseconds, a body. */
const textMedia: Media = {
  contentType: async (_input, name) => (name.endsWith(".srt") ? "application/x-subrip" : "text/plain"),
  async probe(input) {
    const parts = /^(video|audio):(\d+):/.exec(await textOf(input));
    if (parts === null) return null;
    const type = parts[1] as "video" | "audio";
    return {
      contentType: `${type}/x-text`,
      mediaTypes: [type],
      durationMs: Number(parts[2]),
      tracks: [{ type, codec: "text" }],
    };
  },
  async join(clips) {
    const texts: string[] = [];
    for (const clip of clips.toSorted((a, b) => a.startMs - b.startMs)) texts.push(await textOf(clip.input));
    const total = texts.reduce((sum, text) => sum + Number(text.split(":")[1]), 0);
    const bytes = utf8(`video:${total}:${texts.map((text) => text.split(":")[2]).join("+")}`);
    return {
      size: bytes.length,
      contentType: null,
      body: (async function* () {
        yield bytes;
      })(),
    };
  },
  close: async () => {},
};
