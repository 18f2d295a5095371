/**
 * The ports of background ingestion: where bytes come from besides uploads, and what media are. Only the worker
 * (`ingest.ts`, `attempt.ts`) calls them; each method's contract is its prose, as in `ports.ts`.
 *
 * How a failure is told: `source_failed` when trying again will not help (404, refused, not what it claims),
 * `upstream_failed` when it may (5xx, 429, timeouts, broken connections), `policy_rejected` for what may not be fetched
 * or joined, `too_large` over the ceiling, `no_space` where this machine has no room to work in. Messages go to the
 * client: they name hosts, never query strings or credentials.
 */

import type { Sealer } from "./secrets.ts";

/** Bytes that are on their way. */
export interface SourceBody {
  /** Bytes, where the source says so beforehand. */
  readonly size: number | null;
  /** What the source says they are; not to be trusted. */
  readonly contentType: string | null;
  /**
   * Yields the bytes with back-pressure, and rejects as told above. Never ends normally with fewer bytes than the
   * source announced, or more than `sizeMax`. Must be iterated or returned, else it holds its connection.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface OpenOptions {
  /** Bytes; more are refused with `too_large`, announced or not. */
  readonly sizeMax: number;
  readonly signal?: AbortSignal;
}

export interface FetchUrl {
  /**
   * Opens an http or https URL, following redirects. Every address is checked as it is connected to, on every hop
   * (ruling 12). A broken connection is resumed where the origin allows it.
   */
  open(url: string, options: OpenOptions): Promise<SourceBody>;
  /** Ends all connections. */
  close(): Promise<void>;
}

export interface S3Source {
  /**
   * Opens `s3://bucket/key` with a client's own credentials, as JSON text
   * `{accessKeyId, secretAccessKey, sessionToken?, region?, endpoint?}`.
   */
  open(s3Path: string, credentials: string, options: OpenOptions): Promise<SourceBody>;
  close(): Promise<void>;
}

/** Random access to stored bytes, over a disk and over S3 ranges alike. */
export interface MediaInput {
  /** Bytes. */
  readonly size: number;
  /** The bytes from `start` up to, not including, `end`; fewer only at the end of the input. */
  read(start: number, end: number): Promise<Uint8Array>;
}

export interface MediaTrack {
  readonly type: "video" | "audio";
  /** RFC 6381 codec string, such as `avc1.64001f`. */
  readonly codec: string;
  readonly width?: number;
  readonly height?: number;
  /** Frames per second. */
  readonly frameRate?: number;
  /** Hertz. */
  readonly sampleRate?: number;
  readonly channels?: number;
}

export interface MediaFacts {
  /** Media type of the container, such as `video/mp4`. */
  readonly contentType: string;
  /** Without codecs in detail: which kinds of streams there are. */
  readonly mediaTypes: readonly ("video" | "audio")[];
  /** From the first to the end of the last packet. */
  readonly durationMs: number;
  readonly tracks: readonly MediaTrack[];
}

/** A whole clip and where it begins on the output's timeline. */
export interface Clip {
  readonly input: MediaInput;
  readonly startMs: number;
}

export interface Media {
  /**
   * The media type of these bytes: from their content where that tells, else from the name, else
   * `application/octet-stream`. Reads the beginning only.
   */
  contentType(input: MediaInput, name: string): Promise<string>;
  /** What is in there, from headers only; null when it is no media this driver can read. */
  probe(input: MediaInput, options?: { readonly signal?: AbortSignal }): Promise<MediaFacts | null>;
  /**
   * Joins whole clips by copying packets (ruling 11): in order of `startMs`, each beginning there or where the one
   * before it ends, whichever is later; holes stay holes. The result has been probed and its duration checked.
   * @throws DocyardError `policy_rejected` naming the fragment (from 1, as given) and the property in which it differs,
   *   or the reason why the format cannot be joined; `source_failed` for a clip that is no media.
   */
  join(
    clips: readonly Clip[],
    options: { readonly type: "video" | "audio"; readonly signal?: AbortSignal },
  ): Promise<SourceBody>;
  close(): Promise<void>;
}

/** What background ingestion needs beyond the ports of every request. */
export interface IngestPorts {
  /** Opens URLs. */
  readonly fetchUrl: FetchUrl;
  /** Opens `s3://` paths with a client's own credentials. */
  readonly s3: S3Source;
  /** Reads and joins media. */
  readonly media: Media;
  /** Opens the S3 credentials of API keys. */
  readonly sealer: Sealer;
}
