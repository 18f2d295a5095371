/**
 * Joins whole clips by copying packets (ruling 11): compares them, lays them out on one timeline, writes the result.
 * Runs in the worker thread; reading a clip's facts is `mediabunny-read.ts`, silence is `silence.ts`.
 */

import type { InputAudioTrack, InputVideoTrack, OutputFormat } from "mediabunny";
import {
  AdtsOutputFormat,
  EncodedAudioPacketSource,
  EncodedPacket,
  EncodedPacketSink,
  EncodedVideoPacketSource,
  MkvOutputFormat,
  MovOutputFormat,
  Mp3OutputFormat,
  Mp4OutputFormat,
  OggOutputFormat,
  Output,
  StreamTarget,
  WavOutputFormat,
  WebMOutputFormat,
} from "mediabunny";
import { open as openFile } from "node:fs/promises";
import { RESULT_HOURS_MAX } from "./limits.ts";
import type { Container, OpenInput, Reading, TrackReading } from "./mediabunny-read.ts";
import { readMedia, typeOf } from "./mediabunny-read.ts";
import type { JoinJob, JoinReport, Refusal } from "./protocol.ts";
import { isFull, SCRATCH_IS_FULL, sinkOf } from "./scratch.ts";
import type { Silence } from "./silence.ts";
import { opusSeconds, silenceFor } from "./silence.ts";

/** Ends a join with words for the client. */
export class JoinRefused extends Error {
  readonly refusal: Refusal;
  constructor(code: Refusal["code"], message: string, cause?: unknown) {
    super(message);
    this.refusal = { code, message, ...(cause instanceof Error ? { cause: String(cause) } : {}) };
  }
}

export interface JoinTools {
  /** Opens a clip by its position in the job; `budgeted` when only its headers are wanted. */
  open(clip: number, budgeted: boolean): OpenInput;
  /** Called every so often while packets move. */
  alive(): void;
}

/**
 * Writes the joined file to the job's path.
 * @throws JoinRefused
 */
export async function join(job: JoinJob, tools: JoinTools): Promise<JoinReport> {
  const clips: ClipFacts[] = [];
  for (const [index, { startMs }] of job.clips.entries()) {
    clips.push(await readClip(index, startMs / 1000, job.type, tools));
  }
  const [first, ...rest] = clips;
  if (first === undefined) throw new JoinRefused("policy_rejected", "There are no fragments to join");
  const target = TARGETS[first.container];
  if (target === null) {
    throw new JoinRefused(
      "policy_rejected",
      `Fragment 1 is ${first.container}, which cannot be joined safely`,
    );
  }
  for (const clip of rest) compare(first, clip);
  const flac = first.tracks.find(({ codec }) => codec === "flac");
  if (flac !== undefined) {
    throw new JoinRefused(
      "policy_rejected",
      "Fragment 1 has FLAC sound, whose frames are numbered and cannot be joined without encoding anew",
    );
  }
  const placed = layOut(clips);
  checkHoles(placed, target);
  checkSize(placed, job);
  const hasVideo = first.tracks.some(({ type }) => type === "video");
  const { start, frame } = await write(job, placed, target, tools);
  const end = Math.max(...placed.map(({ offset, length }) => offset + length));
  return {
    contentType: typeOf(first.container, hasVideo),
    durationMs: Math.round((end - start) * 1000),
    toleranceMs: Math.ceil(frame * 1000) + ROUNDING_MS,
  };
}

/** Clocks that tick in milliseconds round a start and an end. */
const ROUNDING_MS = 2;

// ---- what the clips are ----------------------------------------------------------------------------------------

interface TrackFacts {
  readonly type: "video" | "audio";
  readonly codec: string;
  /** Named properties that must be equal; the words of a refusal. */
  readonly properties: Readonly<Record<string, string>>;
  readonly frameRate: number | null;
  /** Seconds of one packet. */
  readonly frame: number;
  readonly silence: Silence | null;
}

interface ClipFacts {
  /** Position in the job. */
  readonly index: number;
  readonly size: number;
  readonly startsAt: number;
  readonly container: Container;
  readonly tracks: readonly TrackFacts[];
  /** Seconds into the clip at which presentation begins. */
  readonly start: number;
  /** Seconds. */
  readonly length: number;
}

async function readClip(
  index: number,
  startsAt: number,
  type: "video" | "audio",
  tools: JoinTools,
): Promise<ClipFacts> {
  const open = tools.open(index, true);
  try {
    const reading = await readMedia(open).catch(() => null);
    const name = `Fragment ${index + 1}`;
    if (reading === null) {
      throw new JoinRefused("source_failed", `${name} is not media in a format that can be read`);
    }
    const lost = reading.unknown.find((track) => type === "video" || track.type === "audio");
    if (lost !== undefined) {
      throw new JoinRefused(
        "policy_rejected",
        `${name} has ${lost.type} in a codec that is not known here (${lost.unknown}) and would get lost`,
      );
    }
    const wanted = wantedTracks(reading, type);
    if (!wanted.some(({ facts }) => facts.type === type)) {
      throw new JoinRefused("source_failed", `${name} has no ${type} stream`);
    }
    const early = wanted.find(({ facts, first }) => facts.type === "video" && first < -EPSILON);
    if (early !== undefined) {
      throw new JoinRefused(
        "policy_rejected",
        `${name} has an edit list that hides its first frames, which cannot be kept without encoding anew`,
      );
    }
    const start = Math.max(0, Math.min(...wanted.map(({ first }) => first)));
    const end = Math.max(...wanted.map((track) => track.end));
    const tracks: TrackFacts[] = [];
    for (const track of wanted) tracks.push(await trackFacts(track));
    return {
      index,
      size: open.size,
      startsAt,
      container: reading.container,
      tracks,
      start,
      length: end - start,
    };
  } finally {
    open.input.dispose();
  }
}

/** Seconds below which two moments are the same. */
const EPSILON = 1e-6;

/** All tracks of a video, the sound alone of an audio. */
function wantedTracks({ tracks }: Reading, type: "video" | "audio"): TrackReading[] {
  return tracks.filter(({ facts }) => type === "video" || facts.type === "audio");
}

async function trackFacts({
  track,
  facts,
  codec,
  config,
  packetDuration,
}: TrackReading): Promise<TrackFacts> {
  const settings = `${config.codec} ${hex(config.description)}`;
  if (!track.isVideoTrack()) {
    const { sampleRate = 0, channels = 0 } = facts;
    const sample = await new EncodedPacketSink(track).getFirstPacket();
    const hasDescription = config.description !== undefined;
    const parameter = facts.codec;
    const silence =
      sample === null
        ? null
        : silenceFor({ codec, parameter, sampleRate, channels, hasDescription, sample: sample.data });
    const properties = {
      codec,
      "sample rate": `${sampleRate} Hz`,
      channels: String(channels),
      "codec settings": settings,
    };
    return { type: "audio", codec, properties, frameRate: null, frame: packetDuration, silence };
  }
  const rotation = await track.getRotation();
  const properties = {
    codec,
    resolution: `${facts.width}×${facts.height}`,
    rotation: `${rotation}°${(await track.getFlip()) ? " mirrored" : ""}`,
    "codec settings": settings,
  };
  return {
    type: "video",
    codec,
    properties,
    frameRate: facts.frameRate ?? null,
    frame: facts.frameRate === undefined ? packetDuration : 1 / facts.frameRate,
    silence: null,
  };
}

function hex(bytes: VideoDecoderConfig["description"]): string {
  if (bytes === undefined) return "";
  const view = ArrayBuffer.isView(bytes) ? bytes : new Uint8Array(bytes);
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString("hex");
}

/** Relative difference at which two frame rates are two: 29.97 and 30 are. */
const FRAME_RATE_TOLERANCE = 0.0006;

/** Refuses a clip that could not follow the first one in the same file. */
function compare(first: ClipFacts, clip: ClipFacts): void {
  const differ = (property: string, has: string, instead: string): JoinRefused =>
    new JoinRefused(
      "policy_rejected",
      `Fragment ${clip.index + 1} differs from fragment 1 in ${property}: ${has} instead of ${instead}`,
    );
  for (const type of ["video", "audio"] as const) {
    const [mine, theirs] = [clip, first].map(({ tracks }) => tracks.filter((track) => track.type === type));
    if (mine?.length !== theirs?.length) {
      throw differ(`its number of ${type} tracks`, String(mine?.length), String(theirs?.length));
    }
  }
  for (const [number, track] of clip.tracks.entries()) {
    const other = first.tracks[number];
    if (other === undefined) continue;
    // Settings last: they differ whenever something with a better name does.
    for (const property of ["codec", "resolution", "rotation", "sample rate", "channels"]) {
      const [has = "", instead = ""] = [track.properties[property], other.properties[property]];
      if (has !== instead) throw differ(`${track.type} ${property}`, has, instead);
    }
    if (!sameFrameRate(track.frameRate, other.frameRate)) {
      throw differ("frame rate", `${track.frameRate}`, `${other.frameRate}`);
    }
    if (track.properties["codec settings"] !== other.properties["codec settings"]) {
      throw new JoinRefused(
        "policy_rejected",
        `Fragment ${clip.index + 1} differs from fragment 1 in ${track.type} codec settings (encoded in another way)`,
      );
    }
  }
}

function sameFrameRate(one: number | null, other: number | null): boolean {
  // A single frame has no rate.
  if (one === null || other === null) return true;
  return Math.abs(one - other) <= FRAME_RATE_TOLERANCE * Math.max(one, other);
}

// ---- where they go ---------------------------------------------------------------------------------------------

interface Placed extends ClipFacts {
  /** Seconds on the output's timeline. */
  readonly offset: number;
  /** Seconds of nothing before it. */
  readonly hole: number;
}

/** In order of start, stable; each where it wants to be or right after the one before, whichever is later. */
function layOut(clips: readonly ClipFacts[]): Placed[] {
  let end = 0;
  return clips
    .toSorted((a, b) => a.startsAt - b.startsAt)
    .map((clip) => {
      const offset = Math.max(clip.startsAt, end);
      const placed = { ...clip, offset, hole: offset - end };
      end = offset + clip.length;
      return placed;
    });
}

interface Target {
  readonly name: string;
  readonly format: (size: number) => OutputFormat;
  /** Packets carry their time; without, a hole closes by itself unless something fills it. */
  readonly hasTimeline: boolean;
}

/** Bytes from which a WAV file needs 64-bit sizes (RF64). */
const WAV_SIZE_MAX = 2 ** 32 - 2 ** 20;

/** What each container is joined into; null where frames carry state that a copy would break. */
const TARGETS: Record<Container, Target | null> = {
  mp4: { name: "MP4", format: () => new Mp4OutputFormat({ fastStart: false }), hasTimeline: true },
  mov: { name: "MOV", format: () => new MovOutputFormat({ fastStart: false }), hasTimeline: true },
  webm: { name: "WebM", format: () => new WebMOutputFormat(), hasTimeline: true },
  mkv: { name: "Matroska", format: () => new MkvOutputFormat(), hasTimeline: true },
  wav: {
    name: "WAV",
    format: (size) => new WavOutputFormat({ large: size > WAV_SIZE_MAX }),
    hasTimeline: false,
  },
  ogg: { name: "Ogg", format: () => new OggOutputFormat(), hasTimeline: false },
  mp3: { name: "MP3", format: () => new Mp3OutputFormat(), hasTimeline: false },
  aac: { name: "AAC", format: () => new AdtsOutputFormat(), hasTimeline: false },
  flac: null,
  ts: null,
};

/** Refuses a hole that would silently close. */
function checkHoles(placed: readonly Placed[], target: Target): void {
  if (target.hasTimeline) return;
  for (const { index, hole, tracks } of placed) {
    const mute = tracks.find(({ silence }) => silence === null);
    if (mute === undefined || hole <= mute.frame) continue;
    throw new JoinRefused(
      "policy_rejected",
      `Fragment ${index + 1} begins ${hole.toFixed(3)} s after the one before it ends, and ${target.name} with ` +
        `${mute.codec} sound cannot hold a pause`,
    );
  }
}

function checkSize(placed: readonly Placed[], job: JoinJob): void {
  const last = placed.at(-1);
  if (last !== undefined && last.offset + last.length > RESULT_HOURS_MAX * 3600) {
    throw new JoinRefused(
      "policy_rejected",
      `Fragment ${last.index + 1} would end after the ${RESULT_HOURS_MAX} hours that a result may last`,
    );
  }
  if (estimatedSize(placed) > job.sizeMax) {
    throw new JoinRefused("too_large", `The joined file would be larger than ${job.sizeMax} bytes`);
  }
}

/** Bytes: all clips, and the silence between them. */
function estimatedSize(placed: readonly Placed[]): number {
  let size = 0;
  for (const { size: own, hole, tracks } of placed) {
    size += own;
    for (const { silence } of tracks) {
      if (silence !== null) size += (hole * silence.sampleRate * silence.data.length) / silence.samples;
    }
  }
  return size;
}

// ---- writing ---------------------------------------------------------------------------------------------------

/** One track of the result and how far it has come. */
interface Lane {
  readonly type: "video" | "audio";
  readonly codec: string;
  readonly silence: Silence | null;
  readonly add: (packet: EncodedPacket, config: VideoDecoderConfig | AudioDecoderConfig) => Promise<void>;
  /** Seconds: where its last packet ended, decoded without trimming. */
  clock: number;
  /** Seconds: its longest packet. */
  longest: number;
  /** Seconds: where its first packet began, once there is one. */
  start: number | null;
  config: VideoDecoderConfig | AudioDecoderConfig | null;
}

/** Resolves to where the result begins and by how much its end may be off, in seconds. */
async function write(
  job: JoinJob,
  placed: readonly Placed[],
  target: Target,
  tools: JoinTools,
): Promise<{ readonly start: number; readonly frame: number }> {
  const file = await openFile(job.path, "w");
  const sink = sinkOf(file);
  const output = new Output({
    format: target.format(estimatedSize(placed)),
    target: new StreamTarget(sink.stream, { chunked: true }),
  });
  output.target.onwrite = (_, end) => {
    if (end > job.sizeMax)
      throw new JoinRefused("too_large", `The joined file is larger than ${job.sizeMax} bytes`);
  };
  let lanes: Lane[] = [];
  try {
    for (const clip of placed) {
      const open = tools.open(clip.index, false);
      try {
        const tracks = await tracksOf(open, job.type);
        if (output.state === "pending") {
          lanes = await addLanes(output, tracks, clip.tracks);
          await output.start();
        }
        await copyClip(clip, tracks, lanes, target, tools);
      } finally {
        open.input.dispose();
      }
    }
    await output.finalize();
    return {
      start: Math.min(...lanes.map(({ start }) => start ?? Number.POSITIVE_INFINITY)),
      // How long the last Vorbis packet of each clip is can only be guessed.
      frame: Math.max(
        ...lanes.map(({ codec, longest }) => longest * (codec === "vorbis" ? placed.length : 1)),
      ),
    };
  } catch (error) {
    await output.cancel().catch(() => undefined);
    // Whatever else went wrong then, went wrong because of that.
    const fault = sink.fault();
    throw isFull(fault) ? new JoinRefused("no_space", SCRATCH_IS_FULL, fault) : (fault ?? error);
  } finally {
    await file.close();
  }
}

type PlayableTrack = InputVideoTrack | InputAudioTrack;

/** In the order in which `readMedia` lists them. */
async function tracksOf({ input }: OpenInput, type: "video" | "audio"): Promise<PlayableTrack[]> {
  const video = type === "video" ? await input.getVideoTracks() : [];
  const playable: PlayableTrack[] = [];
  for (const track of [...video, ...(await input.getAudioTracks())]) {
    const hasPackets = (await new EncodedPacketSink(track).getFirstPacket({ metadataOnly: true })) !== null;
    if (hasPackets && (await track.getDecoderConfig()) !== null) playable.push(track);
  }
  return playable;
}

async function addLanes(
  output: Output,
  tracks: readonly PlayableTrack[],
  facts: readonly TrackFacts[],
): Promise<Lane[]> {
  const lanes: Lane[] = [];
  for (const [number, track] of tracks.entries()) {
    const state = {
      clock: 0,
      longest: 0,
      start: null,
      config: null,
      silence: facts[number]?.silence ?? null,
    };
    const named = { languageCode: await track.getLanguageCode(), disposition: await track.getDisposition() };
    if (track.isVideoTrack()) {
      const codec = await track.getCodec();
      if (codec === null) continue;
      const source = new EncodedVideoPacketSource(codec);
      output.addVideoTrack(source, {
        ...named,
        rotation: await track.getRotation(),
        flip: await track.getFlip(),
      });
      const add: Lane["add"] = (packet, config) => source.add(packet, { decoderConfig: config });
      lanes.push({ ...state, type: "video", codec, add });
    } else {
      const codec = await track.getCodec();
      if (codec === null) continue;
      const source = new EncodedAudioPacketSource(codec);
      output.addAudioTrack(source, named);
      const add: Lane["add"] = (packet, config) =>
        source.add(packet, { decoderConfig: config as AudioDecoderConfig });
      lanes.push({ ...state, type: "audio", codec, add });
    }
  }
  return lanes;
}

/** Packets between two signs of life. */
const ALIVE_PACKETS = 512;

/** Seconds of packets that a muxer keeps before it writes them; MP4's as long. */
const KEPT_SECONDS = 0.5;
/** Bytes that these may have: 2 Gbit/s, of which no level of a codec allows the half. */
const KEPT_BYTES_MAX = 128 * 1024 * 1024;

/** Copies every packet of a clip, all tracks side by side in order of time. */
async function copyClip(
  clip: Placed,
  tracks: readonly PlayableTrack[],
  lanes: readonly Lane[],
  target: Target,
  tools: JoinTools,
): Promise<void> {
  const name = `Fragment ${clip.index + 1}`;
  const shift = clip.offset - clip.start;
  const heads: {
    lane: Lane;
    packets: AsyncIterator<EncodedPacket>;
    next: EncodedPacket | null;
    begun: boolean;
  }[] = [];
  const kept = { from: Number.NEGATIVE_INFINITY, bytes: 0 };
  const advance = async (packets: AsyncIterator<EncodedPacket>): Promise<EncodedPacket | null> => {
    let packet: EncodedPacket;
    try {
      const { value, done } = await packets.next();
      if (done === true) return null;
      packet = value;
    } catch (error) {
      throw new JoinRefused("source_failed", `${name} cannot be read to its end`, error);
    }
    if (packet.timestamp - kept.from > KEPT_SECONDS)
      Object.assign(kept, { from: packet.timestamp, bytes: 0 });
    kept.bytes += packet.byteLength;
    if (kept.bytes > KEPT_BYTES_MAX) {
      throw new JoinRefused("policy_rejected", `${name} has more bytes in half a second than can be joined`);
    }
    return packet;
  };
  for (const [number, track] of tracks.entries()) {
    const lane = lanes[number];
    if (lane === undefined) throw new JoinRefused("source_failed", `${name} changed while it was being read`);
    lane.config = await track.getDecoderConfig();
    const packets = new EncodedPacketSink(track).packets();
    heads.push({ lane, packets, next: await advance(packets), begun: false });
  }
  for (let count = 1; ; count += 1) {
    const head = heads.reduce((a, b) =>
      (b.next?.timestamp ?? Infinity) < (a.next?.timestamp ?? Infinity) ? b : a,
    );
    const packet = head.next;
    if (packet === null) return;
    head.next = await advance(head.packets);
    const { lane } = head;
    // Decoder priming of a format that tells it apart: packets before zero are not presented.
    if (target.hasTimeline && packet.timestamp < -EPSILON) continue;
    const due = packet.timestamp + shift;
    if (!head.begun && lane.type === "audio") {
      // Nobody trims the last packet of the clip before any more, so its sound may reach into this one: what it covers
      // by half is left out, else many clips would drift apart from their picture or their place.
      if (lane.clock - due > frameOf(lane) / 2 + EPSILON) continue;
      await fillHole(lane, due, target);
    }
    head.begun = true;
    await append(lane, packet, {
      at: target.hasTimeline ? due : lane.clock,
      isLast: head.next === null,
      name,
    });
    if (count % ALIVE_PACKETS === 0) tools.alive();
  }
}

async function append(
  lane: Lane,
  { data, type, duration, sideData }: EncodedPacket,
  { at, isLast, name }: { readonly at: number; readonly isLast: boolean; readonly name: string },
): Promise<void> {
  if (lane.config === null) throw new JoinRefused("source_failed", `${name} has no codec settings`);
  try {
    await lane.add(new EncodedPacket(data, type, at, duration, -1, undefined, sideData), lane.config);
  } catch (error) {
    if (error instanceof JoinRefused) throw error;
    throw new JoinRefused("policy_rejected", `${name} cannot be joined: its packets are out of order`, error);
  }
  lane.longest = Math.max(lane.longest, duration);
  lane.start = Math.min(lane.start ?? at, at);
  lane.clock = Math.max(lane.clock, at + untrimmed(lane, data, duration, isLast));
}

/**
 * Seconds that a packet decodes to, where a container counts less of it: players trim the end of a clip, and nobody does
 * so in the middle of a joined file.
 */
function untrimmed(lane: Lane, data: Uint8Array, duration: number, isLast: boolean): number {
  if (lane.codec === "opus") return opusSeconds(data);
  return isLast ? Math.max(duration, frameOf(lane)) : duration;
}

/** Seconds of a whole frame of coded sound; 0 where packets have no length of their own. */
function frameOf({ codec, silence, longest }: Lane): number {
  // Vorbis frames are short or long, and a clip ends on a long one nearly always.
  if (codec === "vorbis") return longest;
  return silence === null || silence.sampleSize !== null ? 0 : silence.samples / silence.sampleRate;
}

/** Writes silence up to `due`, as nearly as packets of this codec allow. */
async function fillHole(lane: Lane, due: number, { hasTimeline }: Target): Promise<void> {
  const { silence, config } = lane;
  if (silence === null || config === null) return;
  const { samples, sampleRate, sampleSize, data } = silence;
  const whole = samples / sampleRate;
  // On a timeline the last part of a packet is left out, so that nothing overlaps; elsewhere the nearest count is best.
  const slack = sampleSize !== null ? 0.5 / sampleRate : hasTimeline ? whole - EPSILON : whole / 2;
  while (due - lane.clock > slack) {
    const part =
      sampleSize === null ? samples : Math.min(samples, Math.round((due - lane.clock) * sampleRate));
    const bytes = sampleSize === null ? data : data.subarray(0, part * sampleSize);
    const packet = new EncodedPacket(bytes, "key", lane.clock, part / sampleRate);
    await append(lane, packet, { at: lane.clock, isLast: false, name: "A pause" });
  }
}
