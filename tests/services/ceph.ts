/**
 * A real S3 server for tests: Ceph's object gateway on an in-memory disk, which checks signatures, expiry and policy.
 * The programs come from PATH, else from Debian without root; buckets are `freshBucket`'s in index.ts.
 */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { findOrFetch, type FindOptions, type Programs, type Wanted } from "./debian.ts";
import {
  freePort,
  openWorkspace,
  startWithRetries,
  untilReady,
  type Daemon,
  type Service,
  type Workspace,
} from "./workspace.ts";

const DAEMONS = ["radosgw", "ceph-mon", "ceph-osd"];

/** What the in-memory disk holds at most; only what is stored takes memory. */
const DISK_BYTES = 4 * 1024 ** 3;

export interface S3Access {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/**
 * `kill` and `restart` are the gateway's alone: the bytes stay, as they do when a provider is out of reach for a
 * while. `pids` names the gateway first, then the monitor and the disk.
 */
export interface CephService extends Service {
  readonly access: S3Access;
}

const WANTED: Wanted = {
  name: "ceph",
  programs: [...DAEMONS, "radosgw-admin", "ceph", "ceph-authtool", "monmaptool"],
  packages: [...DAEMONS, "ceph-common"],
  otherwise:
    "install radosgw, ceph-mon and ceph-osd, or set DOCYARD_TEST_S3_ENDPOINT, _BUCKET, _REGION, _ACCESS_KEY_ID and _SECRET_ACCESS_KEY to a server of your own",
};

/** Starts monitor, disk and gateway on free ports with one user. */
export async function startCeph(find: FindOptions = {}): Promise<CephService> {
  const programs = await findOrFetch(WANTED, find);
  return startWithRetries(async () => {
    const workspace = await openWorkspace("ceph");
    try {
      return await launch(workspace, programs);
    } catch (error) {
      await workspace.close();
      throw error;
    }
  });
}

async function launch(workspace: Workspace, programs: Programs): Promise<CephService> {
  const { dir } = workspace;
  const [monitorPort, gatewayPort] = [await freePort(), await freePort()];
  const conf = join(dir, "ceph.conf");
  const fsid = randomUUID();
  await writeFile(conf, configuration(dir, fsid, monitorPort, gatewayPort, programs.libraries));
  for (const folder of ["mon", "osd", "rgw"]) await mkdir(join(dir, folder));
  const run = (program: string, ...args: string[]) =>
    workspace.run(programs.path(program), args, { env: programs.env });
  const start = (program: string, ...args: string[]) =>
    workspace.start(programs.path(program), args, { env: programs.env });

  const monitor = await startMonitor(run, start, { dir, conf, fsid, port: monitorPort });
  const disk = await startDisk(run, start, conf);
  const startGateway = async (): Promise<Daemon> => {
    const daemon = await start("radosgw", "-f", "-n", "client.rgw", "-c", conf);
    await untilReady(daemon, () => answersHttp(gatewayPort));
    return daemon;
  };
  let gateway = await startGateway();

  const [accessKeyId, secretAccessKey] = ["docyardtestaccess000", randomUUID()];
  const admin = ["-n", "client.rgw", "-c", conf, "--admin-socket", join(dir, "admin.asok")];
  const keys = [`--access-key=${accessKeyId}`, `--secret=${secretAccessKey}`];
  await run("radosgw-admin", ...admin, "user", "create", "--uid=docyard", "--display-name=docyard", ...keys);

  const end = async (): Promise<void> => {
    await gateway.end("SIGTERM");
    await monitor.end("SIGTERM");
    // It takes seconds over SIGTERM, and its disk is memory.
    await disk.end("SIGKILL");
  };
  return {
    access: {
      endpoint: `http://127.0.0.1:${gatewayPort}`,
      region: "us-east-1",
      accessKeyId,
      secretAccessKey,
    },
    get pids() {
      return [gateway.pid, monitor.pid, disk.pid];
    },
    async stop() {
      await end();
      await workspace.close();
    },
    kill: () => gateway.end("SIGKILL"),
    async restart() {
      await gateway.end("SIGKILL");
      gateway = await startGateway();
    },
  };
}

type Run = (program: string, ...args: string[]) => Promise<string>;
type Start = (program: string, ...args: string[]) => Promise<Daemon>;

async function startMonitor(
  run: Run,
  start: Start,
  at: { readonly dir: string; readonly conf: string; readonly fsid: string; readonly port: number },
): Promise<Daemon> {
  const keyring = join(at.dir, "keyring");
  const map = join(at.dir, "monmap");
  const key = (name: string, ...caps: string[]) =>
    run(
      "ceph-authtool",
      keyring,
      "--gen-key",
      "-n",
      name,
      ...caps.flatMap((cap) => ["--cap", ...cap.split("=")]),
    );
  await run(
    "ceph-authtool",
    "--create-keyring",
    keyring,
    "--gen-key",
    "-n",
    "mon.",
    "--cap",
    "mon",
    "allow *",
  );
  await key("client.admin", "mon=allow *", "osd=allow *");
  await key("client.rgw", "mon=allow *", "osd=allow *");
  await key("osd.0", "mon=allow profile osd", "osd=allow *");
  await run("monmaptool", "--create", "--fsid", at.fsid, "--addv", "a", `[v2:127.0.0.1:${at.port}]`, map);
  await run("ceph-mon", "-i", "a", "--mkfs", "--monmap", map, "--keyring", keyring, "-c", at.conf);
  return start("ceph-mon", "-f", "-i", "a", "-c", at.conf);
}

async function startDisk(run: Run, start: Start, conf: string): Promise<Daemon> {
  const id = randomUUID();
  await run("ceph", "-c", conf, "osd", "new", id);
  await run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", id, "-c", conf);
  return start("ceph-osd", "-f", "-i", "0", "-c", conf);
}

/** Ready is any answer at all: without credentials the gateway lists no buckets. */
async function answersHttp(port: number): Promise<void> {
  const asked = request({ host: "127.0.0.1", port, timeout: 2_000 }).end();
  asked.on("timeout", () => asked.destroy(new Error("The gateway did not answer")));
  const [response] = (await once(asked, "response")) as [NodeJS.ReadableStream];
  response.resume();
}

function configuration(
  dir: string,
  fsid: string,
  monitorPort: number,
  gatewayPort: number,
  libraries: string | null,
): string {
  const plugins =
    libraries === null
      ? ""
      : `osd class dir = ${libraries}/rados-classes
erasure code dir = ${libraries}/ceph/erasure-code
plugin dir = ${libraries}/ceph
`;
  return `[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${monitorPort}
mon initial members = a
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = ${dir}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
# Else the monitor stops itself on a disk that is nearly full.
mon data avail warn = 1
mon data avail crit = 0
mon max pg per osd = 1000
# A killed gateway is waited for this long by the next one's first change of a bucket: 30 s untold.
osd client watch timeout = 3
# Ready in 2 s instead of 12.
paxos propose interval = 0.02
paxos min wait = 0.01
run dir = ${dir}
log file = ${dir}/$name.log
admin socket = ${dir}/$name.asok
pid file = ${dir}/$name.pid
ms bind ipv4 = true
ms bind ipv6 = false
${plugins}
[mon.a]
mon data = ${dir}/mon

[osd.0]
osd data = ${dir}/osd
osd objectstore = memstore
memstore device bytes = ${DISK_BYTES}

[client.rgw]
rgw data = ${dir}/rgw
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort}
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
`;
}
