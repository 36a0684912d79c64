/** Sends a recording over tus 1.0: after a lost connection, only the missing bytes are sent. */

import { pause, ProblemError } from "./case.js";

const VERSION = { "Tus-Resumable": "1.0.0" };
const BUSY = new Set(["upload_busy", "upload_offset"]);
/** Codes of temporary problems: an earlier connection is still writing, or wrote more than its answer said. */

/** Sends `blob` for a step. onProgress(part, lost): the share that has arrived, 0 to 1, and whether the connection is
 * lost. Throws a ProblemError if the service rejects it. */
export async function send(theCase, step, blob, onProgress) {
  const begin = `${theCase.url}/uploads/${step}/tus`;
  const type = blob.type.split(";")[0];
  const metadata = type ? { "Upload-Metadata": `filetype ${btoa(type)}` } : {};
  const made = await theCase.request(begin, {
    method: "POST",
    headers: { ...VERSION, "Upload-Length": String(blob.size), ...metadata },
  });
  const url = new URL(made.headers.get("Location"), begin).href;
  for (let offset = 0, wait = 0.5; offset < blob.size; ) {
    onProgress(offset / blob.size, false);
    try {
      const headers = { ...VERSION, ...theCase.headers, "Upload-Offset": String(offset) };
      await patch(url, headers, blob.slice(offset), (bytes) => onProgress((offset + bytes) / blob.size, false));
      return;
    } catch (error) {
      if (error instanceof ProblemError && !error.isTemporary && !BUSY.has(error.code)) throw error;
      onProgress(offset / blob.size, true);
      await pause(wait);
      wait = Math.min(2 * wait, 8);
    }
    const seen = await theCase.request(url, { method: "HEAD", headers: VERSION });
    offset = Number(seen.headers.get("Upload-Offset"));
  }
}

/** One request with the remaining bytes. XMLHttpRequest, because fetch does not report upload progress. */
function patch(url, headers, body, progress) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PATCH", url);
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status === 204) return done();
      let problem = {};
      try {
        problem = JSON.parse(request.responseText);
      } catch {
        // Not an answer of the service but a proxy's own page.
      }
      failed(new ProblemError(request.status, problem));
    };
    request.onerror = request.onabort = request.ontimeout = () => failed(new Error("The connection was lost."));
    request.send(body);
  });
}
