/**
 * The commands of the vendor's "Create Artifact" and "List Artifacts" pages (machine auth), as they are printed there,
 * run by bash and Python against a real server. Only the host, ids, tokens and the "…" of the pages are filled in.
 */

import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ArtifactJson, machineClient, type MachineClient, type PageJson } from "./client.ts";
import { pdf, sha256 } from "./files.ts";
import { build, runJson, type Server, startServer, tempFolder } from "./program.ts";
import { pythonWithRequests } from "./python.ts";

const execFileAsync = promisify(execFile);
const DOCK = "dock_metro_general";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;
let client: MachineClient;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  server = await startServer([], { cwd: folder.path });
  const options = { cwd: folder.path };
  await runJson(["dock", "create", DOCK], options);
  const credentials = await runJson<{ clientId: string; clientSecret: string }>(
    ["client", "create", "--name", "intake", "--dock", DOCK],
    options,
  );
  client = machineClient(server.url, credentials, DOCK);
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

/** Runs a command of the pages, filled in, and gives back what it printed. */
async function shell(command: string, fill: Readonly<Record<string, string>> = {}): Promise<string> {
  const filled = Object.entries({
    "https://api.docyard.io": server.url,
    "{dockId}": DOCK,
    "dyt_live_qrstuvwx...": await client.token(),
    "dyt_live_...": await client.token(),
    ...fill,
  }).reduce((text, [from, to]) => text.replaceAll(from, to), command);
  const { stdout } = await execFileAsync("bash", ["-euo", "pipefail", "-c", filled], { cwd: folder.path });
  return stdout;
}

const CREATE = `curl -X POST https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..." \\
  -H "Content-Type: application/json" \\
  -d '{
    "filename": "discharge-summary-12345.pdf",
    "contentType": "application/pdf",
    "size": 245760,
    "metadata": {
      "patientId": "12345",
      "mrn": "MRN-2024-001",
      "encounterId": "ENC-56789",
      "documentType": "discharge-summary",
      "department": "cardiology",
      "attendingPhysician": "Dr. Sarah Johnson"
    }
  }'`;

const UPLOAD = `curl -X PUT "https://s3.amazonaws.com/..." \\
  -H "Content-Type: application/pdf" \\
  --data-binary @discharge-summary.pdf`;

const COMPLETE = `curl -X POST https://api.docyard.io/v1/machine/docks/{dockId}/artifacts/upload/complete \\
  -H "Authorization: Bearer dyt_live_..." \\
  -d '{"uploadId": "upload_01HQ3L...", "s3Key": "..."}'`;

const HASH = `# Compute hash locally
hash=$(sha256sum document.pdf | awk '{print $1}')

# Include in request
curl -X POST ... -d "{..., \\"hash\\": \\"$hash\\"}"`;

/** Of exactly the size that the page declares. */
const SUMMARY = Buffer.concat([pdf("Discharge summary"), Buffer.alloc(245_760)]).subarray(0, 245_760);

describe("Create Artifact", () => {
  test("create, upload, complete", async () => {
    await writeFile(join(folder.path, "discharge-summary.pdf"), SUMMARY);
    const created = JSON.parse(await shell(CREATE)) as ArtifactJson;
    expect(created).toMatchObject({
      dockId: DOCK,
      filename: "discharge-summary-12345.pdf",
      contentType: "application/pdf",
      size: 245_760,
      isDuplicate: false,
      metadata: { patientId: "12345", attendingPhysician: "Dr. Sarah Johnson" },
    });
    expect(created.id).toMatch(/^art_/);
    expect(created.uploadId).toMatch(/^upload_/);

    await shell(UPLOAD, { "https://s3.amazonaws.com/...": created.uploadUrl! });
    // Without -H "Content-Type": curl sends it as a form.
    const completed = JSON.parse(
      await shell(COMPLETE, {
        "upload_01HQ3L...": created.uploadId!,
        '"s3Key": "..."': `"s3Key": "${created.storageKey}"`,
      }),
    ) as ArtifactJson;
    expect(completed).toMatchObject({ id: created.id, hash: `sha256:${sha256(SUMMARY)}`, size: 245_760 });
  });

  test("a hash computed by sha256sum finds what is there already", async () => {
    await writeFile(join(folder.path, "document.pdf"), SUMMARY);
    const answer = await shell(HASH, {
      "curl -X POST ... ": `curl -X POST ${server.url}/v1/machine/docks/${DOCK}/artifacts -H "Authorization: Bearer ${await client.token()}" `,
      '{..., \\"hash\\"': '{\\"filename\\": \\"document.pdf\\", \\"hash\\"',
    });
    expect(JSON.parse(answer)).toMatchObject({
      filename: "discharge-summary-12345.pdf",
      hash: `sha256:${sha256(SUMMARY)}`,
      isDuplicate: true,
    });
  });
});

/** As printed, quotes and all: curl is not told -g, so it eats braces. */
const LISTS = {
  all: `curl https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..."`,
  search: `curl "https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts?search=discharge" \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..."`,
  metadata: `curl "https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts?metadata={\\"patientId\\":\\"12345\\"}" \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..."`,
  paginate: `curl "https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts?limit=50&offset=100" \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..."`,
  dates: `curl "https://api.docyard.io/v1/machine/docks/dock_metro_general/artifacts?createdAfter=2024-03-01T00:00:00Z" \\
  -H "Authorization: Bearer dyt_live_qrstuvwx..."`,
} as const;

/** The shorter forms of the page have no Authorization line; every request needs one. */
const AUTHORIZED = ` \\\n  -H "Authorization: Bearer dyt_live_..."`;
const SHORT_LISTS = {
  single: `curl "https://api.docyard.io/v1/machine/docks/{dockId}/artifacts?metadata={\\"patientId\\":\\"12345\\"}"`,
  several: `curl "https://api.docyard.io/v1/machine/docks/{dockId}/artifacts?metadata={\\"patientId\\":\\"12345\\",\\"documentType\\":\\"discharge-summary\\"}"`,
  lastDay: `curl "https://api.docyard.io/v1/machine/docks/{dockId}/artifacts?createdAfter=$(date -u -d '24 hours ago' +%Y-%m-%dT%H:%M:%SZ)"`,
} as const;

const DOWNLOAD = `curl -o discharge-summary.pdf "https://s3.amazonaws.com/..."`;

/** The page's client, whole. */
const PYTHON = `import requests

def download_all_artifacts(dock_id, token):
    headers = {'Authorization': f'Bearer {token}'}
    offset = 0
    
    while True:
        response = requests.get(
            f'https://api.docyard.io/v1/machine/docks/{dock_id}/artifacts',
            headers=headers,
            params={'limit': 100, 'offset': offset}
        )
        response.raise_for_status()
        data = response.json()
        
        for artifact in data['data']:
            # Download each artifact
            download_response = requests.get(artifact['downloadUrl'])
            with open(artifact['filename'], 'wb') as f:
                f.write(download_response.content)
            print(f"Downloaded: {artifact['filename']}")
        
        if not data['meta']['hasMore']:
            break
        offset += 100

# Usage
download_all_artifacts('dock_metro_general', 'dyt_live_...')
`;

describe("List Artifacts", () => {
  const COUNT = 250;
  const contents = new Map<string, Buffer>();

  beforeAll(async () => {
    contents.set("discharge-summary-12345.pdf", SUMMARY);
    for (let start = 1; start < COUNT; start += 25) {
      const numbers = Array.from({ length: Math.min(25, COUNT - start) }, (_, k) => start + k);
      await Promise.all(
        numbers.map(async (n) => {
          const filename = `lab-results-${n}.pdf`;
          const bytes = pdf(`Lab results ${n}`);
          contents.set(filename, bytes);
          await client.send(
            { filename, metadata: { patientId: String(n), testType: "blood-panel" } },
            () => bytes,
          );
        }),
      );
    }
  });

  const names = (printed: string): string[] =>
    (JSON.parse(printed) as PageJson).data.map(({ filename }) => filename);

  test("all, by page, by name, by date", async () => {
    const all = JSON.parse(await shell(LISTS.all)) as PageJson;
    expect(all.data).toHaveLength(20);
    expect(all.meta).toMatchObject({ total: COUNT, page: 1, pageSize: 20, hasMore: true });
    expect(names(await shell(LISTS.paginate))).toHaveLength(50);
    expect(names(await shell(LISTS.search))).toEqual(["discharge-summary-12345.pdf"]);
    expect((JSON.parse(await shell(LISTS.dates)) as PageJson).meta.total).toBe(COUNT);
    expect((JSON.parse(await shell(SHORT_LISTS.lastDay + AUTHORIZED)) as PageJson).meta.total).toBe(COUNT);
  });

  test("by metadata, although curl eats the braces", async () => {
    expect(names(await shell(LISTS.metadata))).toEqual(["discharge-summary-12345.pdf"]);
    expect(names(await shell(SHORT_LISTS.single + AUTHORIZED))).toEqual(["discharge-summary-12345.pdf"]);
    // Curl makes two requests of this one; each has one of the pairs, and prints one page.
    const pages = (await shell(SHORT_LISTS.several + AUTHORIZED)).split(/(?<=\})(?=\{"data")/);
    expect(pages.map(names)).toEqual([["discharge-summary-12345.pdf"], ["discharge-summary-12345.pdf"]]);
  });

  test("a download URL needs nothing but itself", async () => {
    const { downloadUrl } = (await client.list({ search: "discharge" })).data[0]!;
    await shell(DOWNLOAD, { "https://s3.amazonaws.com/...": downloadUrl });
    expect(sha256(await readFile(join(folder.path, "discharge-summary.pdf")))).toBe(sha256(SUMMARY));
  });

  test(`the Python client brings home all ${COUNT}`, async () => {
    const { program, env } = await pythonWithRequests();
    const cwd = join(folder.path, "home");
    await mkdir(cwd);
    const script = PYTHON.replaceAll("https://api.docyard.io", server.url).replaceAll(
      "dyt_live_...",
      await client.token(),
    );
    await writeFile(join(cwd, "client.py"), script);
    const { stdout } = await execFileAsync(program, ["client.py"], { cwd, env });
    expect(stdout.trim().split("\n")).toHaveLength(COUNT);
    expect(contents.size).toBe(COUNT);
    for (const [filename, bytes] of contents) {
      expect(sha256(await readFile(join(cwd, filename)))).toBe(sha256(bytes));
    }
  });
});
