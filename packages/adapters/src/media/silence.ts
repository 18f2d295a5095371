/**
 * Silent packets for the codecs in which silence can be written by hand, to fill holes between joined clips.
 * Pure bytes; where they go is `mediabunny-join.ts`'s affair.
 */

/** Silence of one codec and its settings. */
export interface Silence {
  /** Samples in one packet. */
  readonly samples: number;
  readonly sampleRate: number;
  /** One packet. */
  readonly data: Uint8Array;
  /** Packets may be cut to any number of samples: the bytes of one sample over all channels, or null. */
  readonly sampleSize: number | null;
}

export interface AudioSettings {
  /** mediabunny's short name of the codec. */
  readonly codec: string;
  /** RFC 6381 parameter. */
  readonly parameter: string;
  readonly sampleRate: number;
  readonly channels: number;
  /** Whether packets need codec settings from outside; AAC packets without are framed as ADTS. */
  readonly hasDescription: boolean;
  /** A packet of the clip, whose header silent ones copy. */
  readonly sample: Uint8Array;
}

/** Silence for these settings, or null where none can be made. */
export function silenceFor(settings: AudioSettings): Silence | null {
  if (settings.codec.startsWith("pcm-") || settings.codec === "ulaw" || settings.codec === "alaw") {
    return pcmSilence(settings);
  }
  if (settings.codec === "mp3") return mp3Silence(settings);
  if (settings.codec === "aac") return aacSilence(settings);
  if (settings.codec === "opus") return opusSilence(settings);
  return null;
}

/** Samples in one packet of plain silence. */
const PCM_SAMPLES = 8192;

function pcmSilence({ codec, sampleRate, channels }: AudioSettings): Silence | null {
  const bits = /^pcm-[sfu](8|16|24|32|64)(?:be)?$/.exec(codec)?.[1];
  const bytes = bits === undefined ? 1 : Number(bits) / 8;
  // Zero is silence everywhere but in unsigned and in companded samples (ITU-T G.711).
  const level = { "pcm-u8": 0x80, ulaw: 0xff, alaw: 0xd5 }[codec] ?? 0;
  const sampleSize = bytes * channels;
  return {
    samples: PCM_SAMPLES,
    sampleRate,
    data: new Uint8Array(PCM_SAMPLES * sampleSize).fill(level),
    sampleSize,
  };
}

/** Layer III bit rates in kbit/s by index (ISO 11172-3, 13818-3). */
const MP3_BITRATES = {
  mpeg1: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  mpeg2: [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
};

/** The clip's own frame header with an empty body: no main data, so both granules decode to silence. */
function mp3Silence({ sample, sampleRate }: AudioSettings): Silence | null {
  const [sync = 0, version = 0, rates = 0, mode = 0] = sample;
  const isMpeg1 = (version & 0x18) === 0x18;
  if (sync !== 0xff || (version & 0xe6) !== 0xe2) return null;
  const kilobits = MP3_BITRATES[isMpeg1 ? "mpeg1" : "mpeg2"][rates >> 4] ?? 0;
  if (kilobits === 0) return null;
  const samples = isMpeg1 ? 1152 : 576;
  const data = new Uint8Array(Math.floor(((samples / 8) * kilobits * 1000) / sampleRate));
  // Without checksum (bit 0 set) and without padding.
  data.set([sync, version | 1, rates & ~0x02, mode]);
  return { samples, sampleRate, data, sampleSize: null };
}

/** Raw AAC-LC frames in which every channel element is empty, by number of channels. */
const AAC_FRAMES: Readonly<Record<number, readonly number[]>> = {
  1: [0x00, 0xc8, 0x00, 0x80, 0x23, 0x80],
  2: [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80],
};

/** Samples in a frame of AAC-LC. */
const AAC_SAMPLES = 1024;

function aacSilence({
  parameter,
  channels,
  sampleRate,
  hasDescription,
  sample,
}: AudioSettings): Silence | null {
  const frame = AAC_FRAMES[channels];
  // SBR and the other object types carry more than this frame says.
  if (parameter !== "mp4a.40.2" || frame === undefined) return null;
  const data = hasDescription ? Uint8Array.from(frame) : adtsFrame(sample, frame);
  return data === null ? null : { samples: AAC_SAMPLES, sampleRate, data, sampleSize: null };
}

/** Bytes of an ADTS header without checksum. */
const ADTS_HEADER_SIZE = 7;

/** The raw frame behind the clip's own ADTS header (ISO 13818-7, 6.2): its length set, no checksum, one block. */
function adtsFrame(sample: Uint8Array, frame: readonly number[]): Uint8Array | null {
  const [sync = 0, id = 0, profile = 0, channels = 0] = sample;
  if (sync !== 0xff || (id & 0xf6) !== 0xf0) return null;
  const length = ADTS_HEADER_SIZE + frame.length;
  const tail = [(channels & 0xfc) | (length >> 11), (length >> 3) & 0xff, ((length & 7) << 5) | 0x1f, 0xfc];
  return Uint8Array.from([sync, id | 1, profile, ...tail, ...frame]);
}

/** Samples at 48 kHz in one frame of each Opus configuration (RFC 6716 section 3.1). */
const OPUS_FRAMES = [
  480, 960, 1920, 2880, 480, 960, 1920, 2880, 480, 960, 1920, 2880, 480, 960, 480, 960,
].concat(Array.from({ length: 4 }, () => [120, 240, 480, 960]).flat());

/**
 * Seconds that an Opus packet decodes to. Containers say less of a clip's first and last packets, because a player
 * trims them; in the middle of a joined file nobody does.
 */
export function opusSeconds(packet: Uint8Array): number {
  const [toc = 0, count = 0] = packet;
  const frames = [1, 2, 2, count & 0x3f][toc & 3] ?? 1;
  return ((OPUS_FRAMES[toc >> 3] ?? 960) * frames) / 48_000;
}

/** A 20 ms CELT frame that says nothing (RFC 6716); stereo decoders take it for both channels. */
function opusSilence({ channels }: AudioSettings): Silence | null {
  if (channels > 2) return null;
  return { samples: 960, sampleRate: 48_000, data: Uint8Array.of(0xf8, 0xff, 0xfe), sampleSize: null };
}
