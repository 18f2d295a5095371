/**
 * The server is killed (SIGKILL) in the middle of uploads and completes, again and again, and started on the same
 * folder: whatever it acknowledged is there, whatever it lists is whole, and every client finishes by repeating its call.
 * The single steps between which a crash may fall are each cut in tests/adapters; here the cuts fall where they fall.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../services/workspace.ts";
import {
  type ArtifactJson,
  download,
  exchange,
  machineClient,
  type MachineClient,
  UnexpectedAnswer,
} from "./client.ts";
import { seededBytes, sha256 } from "./files.ts";
import { build, type FirstRun, type Server, startServer, tempFolder } from "./program.ts";

const KILLS = 24;
/** Artifacts that each round starts; unfinished ones of earlier rounds go on beside them. */
const UPLOADS_PER_ROUND = 6;
/** Bytes: from next to nothing to several of the pieces in which bodies are verified. */
const SIZES = [0, 1, 70_000, 1_048_576, 2_500_000] as const;
/** A PUT goes out in pieces of so many bytes, so that a kill can fall between any two. */
const PIECE_BYTES = 16 * 1024;

/** Where kills fall, in turn: just after a client did this, for one of the first so many times in a round. */
const STEPS = [
  { step: "create", times: UPLOADS_PER_ROUND },
  { step: "piece", times: 200 },
  { step: "complete", times: UPLOADS_PER_ROUND },
  { step: "completed", times: UPLOADS_PER_ROUND },
  { step: "piece", times: 20 },
  { step: "complete", times: 2 },
] as const;
type Step = (typeof STEPS)[number]["step"];
/** A request takes the server some milliseconds: kills fall before, into and after its work. */
const DELAY_MAX_MS = 15;

/** Kills fall at different moments of every run; a failure prints what is needed to see the same ones. */
const SEED = process.env["DOCYARD_TEST_SEED"] ?? String(Date.now());

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server | undefined;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

/** One client's upload, from its point of view. */
interface Upload {
  readonly name: string;
  readonly bytes: Buffer;
  readonly digest: string;
  /** What create answered. */
  created: ArtifactJson | null;
  isPut: boolean;
  /** What complete answered: from here on the server owes it. */
  completed: ArtifactJson | null;
}

/** Numbers in [0, 1) that the seed decides. */
function randomNumbers(seed: string): () => number {
  let n = 0;
  return () => seededBytes(`${seed}/${n++}`, 4).readUInt32LE() / 2 ** 32;
}

/** Goes on with an upload wherever it stands. @throws what the connection throws when the server dies. */
async function goOn(client: MachineClient, upload: Upload, onStep: (step: Step) => void): Promise<void> {
  if (upload.created === null) {
    onStep("create");
    // Every other client knows its hash beforehand.
    const declared = upload.digest < "8" ? { hash: upload.digest, size: upload.bytes.length } : {};
    upload.created = await client.create({ filename: upload.name, ...declared });
  }
  if (!upload.isPut) {
    const { uploadUrl } = upload.created;
    const answer = await exchange(uploadUrl!, {
      method: "PUT",
      body: piecesOf(upload.bytes),
      onProgress: () => onStep("piece"),
    });
    // 409: the last complete was done before the server died, and only its answer was lost.
    if (answer.status !== 200 && answer.status !== 409) throw new UnexpectedAnswer("PUT", answer);
    upload.isPut = true;
  }
  onStep("complete");
  upload.completed = await client.complete(upload.created);
  onStep("completed");
}

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

test(`${KILLS} kills lose nothing that was acknowledged and show nothing that is not whole (seed ${SEED})`, async () => {
  const random = randomNumbers(SEED);
  const port = await freePort();
  const args = ["--port", String(port), "--limit-list", "0", "--limit-download", "0", "--log-level", "warn"];
  const uploads: Upload[] = [];
  const verified = new Set<string>();
  let made: FirstRun | null = null;

  const begin = async (): Promise<MachineClient> => {
    server = await startServer([...args, "--limit-token", "0"], { cwd: folder.path });
    made ??= server.firstRun;
    return machineClient(server.url, made!.client, made!.dock.id);
  };

  for (let kill = 0; kill < KILLS; kill++) {
    const client = await begin();
    await client.token();
    await checkPromises(client, uploads, verified);
    for (let n = 0; n < UPLOADS_PER_ROUND; n++) uploads.push(newUpload(kill, n));

    // Each kill falls a moment after the nth time that any client gets to one step.
    const target = STEPS[kill % STEPS.length]!;
    let left = Math.floor(random() * target.times);
    const isTime = Promise.withResolvers<void>();
    const onStep = (step: Step): void => {
      if (step === target.step && left-- === 0) isTime.resolve();
    };
    const running = uploads
      .filter(({ completed }) => completed === null)
      .map((upload) => goOn(client, upload, onStep).catch(connectionLost));
    await Promise.race([isTime.promise, Promise.all(running)]);
    await sleep(random() * DELAY_MAX_MS);
    await server!.kill();
    await Promise.all(running);
  }

  const client = await begin();
  await checkPromises(client, uploads, new Set());
  for (const upload of uploads) if (upload.completed === null) await goOn(client, upload, () => {});
  await checkPromises(client, uploads, new Set());
  expect(await client.listAll()).toHaveLength(uploads.length);
  expect(uploads).toHaveLength(KILLS * UPLOADS_PER_ROUND);
});

function newUpload(round: number, n: number): Upload {
  const name = `${round}-${n}.bin`;
  const size = SIZES[n % SIZES.length]!;
  // The name makes contents differ; nothing at all can be sent only once.
  const bytes =
    round + n === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from(name), seededBytes(name, size)]);
  return { name, bytes, digest: sha256(bytes), created: null, isPut: false, completed: null };
}

/** A server that dies breaks connections; an answer that is wrong is no accident. */
function connectionLost(error: unknown): void {
  if (error instanceof UnexpectedAnswer || !(error instanceof Error) || !("code" in error)) throw error;
}

/**
 * What the server promised: acknowledged artifacts are listed; whatever is listed is whole and ours. Bytes are read
 * again unless their artifact is among the verified.
 */
async function checkPromises(
  client: MachineClient,
  uploads: readonly Upload[],
  verified: Set<string>,
): Promise<void> {
  const listed = await client.listAll();
  const byHash = new Map(uploads.map((upload) => [`sha256:${upload.digest}`, upload]));
  for (const { id, hash, size } of listed) {
    expect(size, `an artifact ${id} that nobody sent is listed`).toBe(byHash.get(hash!)?.bytes.length);
  }
  for (const { id, hash, downloadUrl } of listed.filter((one) => !verified.has(one.id))) {
    const { bytes, digest } = byHash.get(hash!)!;
    expect(await download(downloadUrl)).toEqual({ status: 200, size: bytes.length, digest });
    verified.add(id);
  }
  const ids = new Set(listed.map(({ id }) => id));
  expect(ids.size).toBe(listed.length);
  const owed = uploads.filter(({ completed }) => completed !== null);
  expect(owed.filter(({ completed }) => !ids.has(completed!.id)).map(({ name }) => name)).toEqual([]);
}
