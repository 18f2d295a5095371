/** An Express app with docyard below `/files`, its data in one folder. Everything else of the app is its own. */

import { localDocyard } from "@docyard/adapters/local";
import { createApp } from "@docyard/server";
import { getRequestListener } from "@hono/node-server";
import express from "express";

const port = Number(process.env["PORT"] ?? 3000);
const yard = await localDocyard({
  folder: process.env["FOLDER"] ?? "docyard",
  publicUrl: process.env["PUBLIC_URL"] ?? `http://localhost:${port}/files`,
});
const firstRun = await yard.provisioning.firstRun();
if (firstRun !== null) console.log("first start:", JSON.stringify(firstRun));

const app = express();
// Before any body parser: docyard reads bodies itself, as they come.
app.use("/files", getRequestListener(createApp({ ...yard, version: "1.0.0" }).fetch));
app.use(express.json());
app.get("/", (_request, response) => {
  response.type("text").send("An app with files.\n");
});

const background = yard.docyard.runInBackground();
const server = app.listen(port, () => console.log(`listening on http://localhost:${port}`));

process.once("SIGTERM", () => {
  // Once the last answer is out.
  server.close(() => void background.stop().then(() => yard.close()));
});
