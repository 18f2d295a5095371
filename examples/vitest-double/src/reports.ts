/** A program that keeps reports in docyard: what a test should not have to start a server for. */

import type { DockClient } from "@docyard/client";

/** Files a report under its patient; the same text twice is kept once. @returns its id */
export async function fileReport(dock: DockClient, patientId: string, text: string): Promise<string> {
  const filename = `report-${patientId}.txt`;
  const { id } = await dock.upload(text, { filename, contentType: "text/plain", metadata: { patientId } });
  return id;
}

/** All reports of a patient, newest first. */
export async function readReports(dock: DockClient, patientId: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const report of dock.artifacts({ metadata: { patientId } })) {
    texts.push(await (await dock.download(report)).text());
  }
  return texts;
}
