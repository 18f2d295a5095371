/** A Hono app with docyard below `/files`, its data in one folder. Everything else of the app is its own. */

import { localDocyard } from "@docyard/adapters/local";
import { createApp } from "@docyard/server";
import { serve } from "@hono/node-server";
import { Hono } from "hono";

const port = Number(process.env["PORT"] ?? 3000);
const yard = await localDocyard({
  folder: process.env["FOLDER"] ?? "docyard",
  publicUrl: process.env["PUBLIC_URL"] ?? `http://localhost:${port}/files`,
});
const firstRun = await yard.provisioning.firstRun();
if (firstRun !== null) console.log("first start:", JSON.stringify(firstRun));

const app = new Hono();
app.get("/", (c) => c.text("An app with files.\n"));
app.mount("/files", createApp({ ...yard, version: "1.0.0" }).fetch);

const background = yard.docyard.runInBackground();
const server = serve({ fetch: app.fetch, port }, () => console.log(`listening on http://localhost:${port}`));

process.once("SIGTERM", () => {
  // Once the last answer is out.
  server.close(() => void background.stop().then(() => yard.close()));
});
