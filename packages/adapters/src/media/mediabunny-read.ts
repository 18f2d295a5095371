/**
 * What mediabunny finds in a file: container, tracks, codec settings, start and end.
 * Runs in the worker thread; knows nothing of messages and ports.
 */

import type { MediaTrack } from "@docyard/core";
import type { InputAudioTrack, InputFormat, InputTrack, InputVideoTrack } from "mediabunny";
import {
  ADTS,
  CustomSource,
  EncodedPacketSink,
  FLAC,
  Input,
  MATROSKA,
  MP3,
  MP4,
  MPEG_TS,
  OGG,
  QTFF,
  WAVE,
  WEBM,
} from "mediabunny";

/** Never HLS: a playlist names other files. */
const FORMATS: InputFormat[] = [MP4, QTFF, WEBM, MATROSKA, WAVE, OGG, MP3, ADTS, FLAC, MPEG_TS];

export type Container = "mp4" | "mov" | "webm" | "mkv" | "wav" | "ogg" | "mp3" | "aac" | "flac" | "ts";

const CONTAINERS: ReadonlyMap<InputFormat, Container> = new Map<InputFormat, Container>([
  [MP4, "mp4"],
  [QTFF, "mov"],
  [WEBM, "webm"],
  [MATROSKA, "mkv"],
  [WAVE, "wav"],
  [OGG, "ogg"],
  [MP3, "mp3"],
  [ADTS, "aac"],
  [FLAC, "flac"],
  [MPEG_TS, "ts"],
]);

/** The media type of a container, by whether a picture is in it. */
const TYPES: Record<Container, { readonly video: string; readonly audio: string }> = {
  mp4: { video: "video/mp4", audio: "audio/mp4" },
  mov: { video: "video/quicktime", audio: "video/quicktime" },
  webm: { video: "video/webm", audio: "audio/webm" },
  mkv: { video: "video/x-matroska", audio: "audio/x-matroska" },
  wav: { video: "audio/wav", audio: "audio/wav" },
  ogg: { video: "video/ogg", audio: "audio/ogg" },
  mp3: { video: "audio/mpeg", audio: "audio/mpeg" },
  aac: { video: "audio/aac", audio: "audio/aac" },
  flac: { video: "audio/flac", audio: "audio/flac" },
  ts: { video: "video/mp2t", audio: "video/mp2t" },
};

export function typeOf(container: Container, hasVideo: boolean): string {
  return TYPES[container][hasVideo ? "video" : "audio"];
}

/** One track of a file with everything that a join must compare. Times in seconds. */
export interface TrackReading {
  readonly track: InputVideoTrack | InputAudioTrack;
  readonly facts: MediaTrack;
  /** mediabunny's short name: `avc`, `opus`. */
  readonly codec: string;
  readonly config: VideoDecoderConfig | AudioDecoderConfig;
  readonly first: number;
  readonly end: number;
  /** Of one packet, near the beginning; 0 when unknown. */
  readonly packetDuration: number;
}

/** A track whose packets are there, in a codec that is not known here: seen, and in the way of a join. */
export interface UnknownTrack {
  readonly type: "video" | "audio";
  /** The container's name of the codec, such as `alac`. */
  readonly unknown: string;
  readonly first: number;
  readonly end: number;
}

export interface Reading {
  readonly container: Container;
  readonly tracks: readonly TrackReading[];
  readonly unknown: readonly UnknownTrack[];
  /** Where presentation begins: packets before zero are decoder priming and not shown. */
  readonly start: number;
  readonly end: number;
}

export type ReadBytes = (start: number, end: number) => Promise<Uint8Array>;

/** Bytes that mediabunny may keep of one input. */
const CACHE_SIZE = 4 * 1024 * 1024;

/**
 * Bytes that may be read to learn about a file, before a duration is estimated instead of measured; and at once, also
 * where all of a file is wanted: no packet is as large, and each is in memory several times while it is copied.
 */
const READ_BUDGET = 256 * 1024 * 1024;

/** What each read costs at least, so that many small ones come to an end too. */
const READ_COST_MIN = 16 * 1024;

class BudgetSpent extends Error {}

/** An open file; whoever opens it disposes of `input`. */
export interface OpenInput {
  readonly size: number;
  readonly input: Input;
  /** Grants a fresh budget of reads. */
  readonly renew: () => void;
}

/** An input whose reads count against a budget, unless the whole of it is wanted; then it holds for each of them. */
export function openInput(size: number, read: ReadBytes, budgeted = true): OpenInput {
  let left = READ_BUDGET;
  const source = new CustomSource({
    getSize: () => size,
    read: (start, end) => {
      left -= Math.max(end - start, READ_COST_MIN);
      if ((budgeted && left < 0) || end - start > READ_BUDGET) throw new BudgetSpent();
      return read(start, end);
    },
    maxCacheSize: CACHE_SIZE,
    // Few and larger reads: each may be a request to an object store.
    prefetchProfile: "network",
    // A prefetch that fails is only missed when its bytes are asked for, and then it fails again.
    handleUnhandledError: () => undefined,
  });
  return { size, input: new Input({ formats: FORMATS, source }), renew: () => void (left = READ_BUDGET) };
}

/** Everything about a file, or null when it is none of the formats, holds no playable track, or lacks its end. */
export async function readMedia({ size, input, renew }: OpenInput): Promise<Reading | null> {
  if (!(await input.canRead())) return null;
  const container = CONTAINERS.get(await input.getFormat());
  if (container === undefined) return null;
  const tracks: TrackReading[] = [];
  const unknown: UnknownTrack[] = [];
  for (const track of await input.getTracks()) {
    const reading = await readTrack(track, () => estimateEnd(input, size, renew));
    if (reading === null) continue;
    if ("unknown" in reading) unknown.push(reading);
    else tracks.push(reading);
  }
  if (tracks.length === 0) return null;
  // A truncated file with its index in front looks whole until its last packets are asked for.
  if (container === "mp4" || container === "mov") {
    for (const { track } of tracks) {
      const last = await new EncodedPacketSink(track).getPacket(Number.POSITIVE_INFINITY);
      if (last === null || last.data.byteLength !== last.byteLength) return null;
    }
  }
  // Video first, as everybody lists them.
  const ordered = tracks.sort((a, b) => Number(b.facts.type === "video") - Number(a.facts.type === "video"));
  const all = [...tracks, ...unknown];
  const start = Math.max(0, Math.min(...all.map(({ first }) => first)));
  const end = Math.max(...all.map((track) => track.end));
  return end > start ? { container, tracks: ordered, unknown, start, end } : null;
}

/** Null for a track without a packet, and for what is neither picture nor sound. */
async function readTrack(
  track: InputTrack,
  estimate: () => Promise<number>,
): Promise<TrackReading | UnknownTrack | null> {
  if (!track.isVideoTrack() && !track.isAudioTrack()) return null;
  const [codec, config] = [await track.getCodec(), await track.getDecoderConfig()];
  const sink = new EncodedPacketSink(track);
  const firstPacket = await sink.getFirstPacket({ metadataOnly: true });
  if (firstPacket === null) return null;
  const isKnown = codec !== null && config !== null;
  const facts = isKnown ? await factsOf(track, sink) : null;
  const first = await track.getFirstTimestamp();
  let end: number;
  try {
    end = await track.computeDuration();
  } catch (error) {
    if (!(error instanceof BudgetSpent)) throw error;
    end = first + (await estimate());
  }
  if (!isKnown || facts === null) {
    const name = codec ?? (await track.getInternalCodecId());
    const unknown = typeof name === "string" ? name : "without a name";
    return { type: track.isVideoTrack() ? "video" : "audio", unknown, first, end };
  }
  return { track, facts, codec, config, first, end, packetDuration: firstPacket.duration };
}

function factsOf(track: InputVideoTrack | InputAudioTrack, sink: EncodedPacketSink): Promise<MediaTrack> {
  return track.isVideoTrack() ? videoFacts(track, sink) : audioFacts(track);
}

async function videoFacts(track: InputVideoTrack, sink: EncodedPacketSink): Promise<MediaTrack> {
  const frameRate = await nominalFrameRate(sink);
  return {
    type: "video",
    codec: (await track.getCodecParameterString()) ?? String(await track.getCodec()),
    width: await track.getDisplayWidth(),
    height: await track.getDisplayHeight(),
    ...(frameRate === null ? {} : { frameRate }),
  };
}

async function audioFacts(track: InputAudioTrack): Promise<MediaTrack> {
  return {
    type: "audio",
    codec: (await track.getCodecParameterString()) ?? String(await track.getCodec()),
    sampleRate: await track.getSampleRate(),
    channels: await track.getNumberOfChannels(),
  };
}

/** Packets looked at to tell a frame rate. */
const FRAME_RATE_PACKETS = 256;

/**
 * Frames per second, from the usual distance of two frames near the beginning: the mean of the distances close to the
 * median one, so that neither millisecond clocks nor a pause in a recording bends it. Null for a single frame.
 */
async function nominalFrameRate(sink: EncodedPacketSink): Promise<number | null> {
  const times: number[] = [];
  for await (const packet of sink.packets(undefined, undefined, { metadataOnly: true })) {
    times.push(packet.timestamp);
    if (times.length === FRAME_RATE_PACKETS) break;
  }
  // Frames are stored in decode order; the last few of the window may lack a neighbour that comes later.
  times.sort((a, b) => a - b);
  const whole = times.length === FRAME_RATE_PACKETS ? times.slice(0, -16) : times;
  const distances = whole.slice(1).map((time, index) => time - (whole[index] ?? time));
  const median = distances.toSorted((a, b) => a - b)[distances.length >> 1];
  if (median === undefined || median <= 0) return null;
  const usual = distances.filter((distance) => Math.abs(distance - median) <= 0.2 * median + 0.001);
  const mean = usual.reduce((sum, distance) => sum + distance, 0) / usual.length;
  return Math.round(1000 / mean) / 1000;
}

/** Packets whose size is averaged to estimate a duration. */
const ESTIMATE_PACKETS = 512;

/**
 * Seconds that a file lasts whose end cannot be found without reading all of it (MP3 without a length header, raw AAC,
 * recordings that were never finalised): its size, at the bit rate of its beginning.
 */
async function estimateEnd(input: Input, size: number, renew: () => void): Promise<number> {
  renew();
  let bytesPerSecond = 0;
  for (const track of await input.getTracks()) {
    const { averageBitrate } = await track.computePacketStats(ESTIMATE_PACKETS);
    bytesPerSecond += averageBitrate / 8;
  }
  renew();
  return size / bytesPerSecond;
}
