/**
 * What is inside an executable, package by package: a CycloneDX 1.6 bill of materials, and one file with every licence
 * text. Reads what the bundler says it took; holds no time and no random number, so that it is the same each time.
 */

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import SqliteDatabase from "better-sqlite3";
import { type Bundle, ROOT } from "./bundle.ts";
import { NODE_VERSION } from "./targets.ts";

/** One npm package inside the bundle. */
export interface Package {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string;
  readonly description: string;
  readonly folder: string;
  /** Package URLs of the packages inside that its files ask for. */
  readonly uses: readonly string[];
}

const PACKAGE_FOLDER = /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//;
const LICENSE_FILE = /^(licen[cs]e|copying|notice)(\..+)?$/i;
const RULE = "=".repeat(80);

/** Every npm package of which a file is in the bundle, by name and version. @throws Error for one without a licence. */
export async function packagesOf({ inputs }: Bundle): Promise<Package[]> {
  const folders = new Map<string, Set<string>>();
  for (const [file, { imports }] of Object.entries(inputs)) {
    const folder = folderOf(file);
    if (folder === null) continue;
    const uses = folders.get(folder) ?? new Set();
    for (const { path, external } of imports) {
      const used = external === true ? null : folderOf(path);
      if (used !== null && used !== folder && path in inputs) uses.add(used);
    }
    folders.set(folder, uses);
  }
  const read = new Map<string, Omit<Package, "uses">>();
  for (const folder of folders.keys()) read.set(folder, await manifestOf(folder));
  const found = [...folders].map(([folder, uses]): Package => ({
    ...read.get(folder)!,
    uses: [...uses].map((used) => purlOf(read.get(used)!)).sort(),
  }));
  // Two copies of one version, installed for different peers, are one component.
  return [...Map.groupBy(found, purlOf).values()]
    .map(([first, ...others]) => ({
      ...first!,
      uses: sorted(new Set([first!, ...others].flatMap(({ uses }) => uses))),
    }))
    .sort((a, b) => (purlOf(a) < purlOf(b) ? -1 : 1));
}

/** The packages that the program's own files ask for. */
function usedByProgram({ inputs }: Bundle, packages: readonly Package[]): string[] {
  const byFolder = new Map(packages.map((one) => [one.folder, purlOf(one)]));
  const used = Object.entries(inputs)
    .filter(([file]) => folderOf(file) === null)
    .flatMap(([, { imports }]) => imports.map(({ path }) => byFolder.get(folderOf(path) ?? "")));
  return sorted([...new Set(used)].filter((purl) => purl !== undefined));
}

/** By code units, so that no language of the machine has a say. */
function sorted(texts: Iterable<string>): string[] {
  return [...texts].sort((a, b) => (a < b ? -1 : 1));
}

function folderOf(file: string): string | null {
  return PACKAGE_FOLDER.exec(file)?.[1] ?? null;
}

async function manifestOf(folder: string): Promise<Omit<Package, "uses">> {
  const manifest = JSON.parse(await readFile(join(ROOT, folder, "package.json"), "utf8")) as Record<
    "name" | "version" | "license" | "description",
    unknown
  >;
  const { name, version, license, description } = manifest;
  if (typeof name !== "string" || typeof version !== "string" || typeof license !== "string") {
    throw new Error(`${folder} does not say its name, version and licence`);
  }
  return { name, version, license, description: typeof description === "string" ? description : "", folder };
}

/** https://github.com/package-url/purl-spec */
export function purlOf({ name, version }: { readonly name: string; readonly version: string }): string {
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}

const NODE_PURL = `pkg:generic/node@${NODE_VERSION}`;

/** `digest`: the executable's SHA-256, hexadecimal. */
export function billOfMaterials(
  bundle: Bundle,
  packages: readonly Package[],
  executable: { readonly file: string; readonly version: string; readonly digest: string },
): object {
  const { file, version, digest } = executable;
  const self = `pkg:generic/docyard-server@${version}`;
  const sqlite = `pkg:generic/sqlite@${sqliteVersion()}`;
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${uuidOf(`${file} ${digest}`)}`,
    version: 1,
    metadata: {
      lifecycles: [{ phase: "build" }],
      component: {
        type: "application",
        "bom-ref": self,
        name: "docyard-server",
        version,
        description: "Takes files from machines and hands them back, whole",
        licenses: [{ license: { id: "Apache-2.0" } }],
        purl: self,
        hashes: [{ alg: "SHA-256", content: digest }],
        properties: [{ name: "docyard:file", value: file }],
      },
    },
    components: [
      {
        type: "platform",
        "bom-ref": NODE_PURL,
        name: "node",
        version: NODE_VERSION,
        description: "Node.js, with what it is built from (V8, OpenSSL, ICU and others)",
        licenses: [{ license: { id: "MIT" } }],
        purl: NODE_PURL,
      },
      {
        type: "library",
        "bom-ref": sqlite,
        name: "sqlite",
        version: sqliteVersion(),
        description: "Compiled into better-sqlite3's addon",
        licenses: [{ license: { id: "blessing" } }],
        purl: sqlite,
      },
      ...packages.map(({ name, version, license, description }) => ({
        type: "library",
        "bom-ref": purlOf({ name, version }),
        ...(name.startsWith("@") ? { group: name.split("/")[0], name: name.split("/")[1] } : { name }),
        version,
        ...(description === "" ? {} : { description }),
        licenses: [/[ ()]/.test(license) ? { expression: license } : { license: { id: license } }],
        purl: purlOf({ name, version }),
      })),
    ],
    dependencies: [
      { ref: self, dependsOn: [NODE_PURL, ...usedByProgram(bundle, packages)] },
      { ref: NODE_PURL },
      { ref: sqlite },
      ...packages.map((one) => {
        const dependsOn = one.name === "better-sqlite3" ? [sqlite, ...one.uses] : one.uses;
        return { ref: purlOf(one), ...(dependsOn.length === 0 ? {} : { dependsOn }) };
      }),
    ],
  };
}

function sqliteVersion(): string {
  const db = new SqliteDatabase(":memory:");
  try {
    return db.prepare<[], string>("select sqlite_version()").pluck().get()!;
  } finally {
    db.close();
  }
}

/** A name-based UUID (RFC 9562, version 8): the same executable, the same number. */
function uuidOf(name: string): string {
  const hex = createHash("sha256").update(name).digest("hex");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join("-");
}

/** Every text that must travel with the executable, in one. */
export async function licenseTexts({ notices }: Bundle, packages: readonly Package[]): Promise<string> {
  const nodeFolder = join(ROOT, "node_modules", `node-${process.platform}-${process.arch}`);
  const node = await textsIn(nodeFolder);
  const parts = [
    "docyard-server contains the following software. Its own licence is Apache-2.0.",
    section(`Node.js ${NODE_VERSION} (MIT, and the licences of what it contains)`, node),
    section(`SQLite ${sqliteVersion()} (public domain)`, []),
  ];
  for (const { name, version, license, folder } of packages) {
    parts.push(section(`${name} ${version} (${license})`, await textsIn(join(ROOT, folder))));
  }
  if (notices !== "") parts.push(section("Notices found in source files", [notices.trim()]));
  return `${parts.join("\n\n")}\n`;
}

function section(title: string, texts: readonly string[]): string {
  const body = texts.length === 0 ? "Comes without a text of its own." : texts.join("\n\n");
  return `${RULE}\n${title}\n${RULE}\n\n${body}`;
}

async function textsIn(folder: string): Promise<string[]> {
  const names = sorted((await readdir(folder)).filter((name) => LICENSE_FILE.test(name)));
  return Promise.all(
    names.map(async (name) => (await readFile(join(folder, name), "utf8")).replaceAll("\r\n", "\n").trim()),
  );
}
