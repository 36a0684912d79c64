/** Guides the person through a case: record the next step, check the recording, send it, until the case has ended. */

import { closeCamera, openCamera, record } from "./camera.js";
import { Case, pause, ProblemError } from "./case.js";
import { send } from "./upload.js";
import { CAMERA_STOPPED, DISCONNECTED, ending, LINK_EXPIRED, NO_CAMERA, NOT_A_LINK, script, SERVICE_ERROR, STEPS } from "./words.js";

const LINK_KEY = "veridask.link";
const ENDED = new Set(["completed", "in_review", "canceled", "expired", "redacted"]);
const $ = (id) => document.getElementById(id);

/** Resolves with the first event of these pairs of an element and an event type. */
function firstEvent(...sources) {
  return new Promise((resolve) => {
    const listeners = new AbortController();
    for (const [element, type] of sources) {
      element.addEventListener(type, (event) => (listeners.abort(), resolve(event)), { signal: listeners.signal });
    }
  });
}

/** Case id and secret from the link. They are removed from the address bar, where they would show on photos of the
 * screen and in the browser's history; the tab's session storage keeps them for a reload. */
function link() {
  if (location.hash.length > 1) {
    sessionStorage.setItem(LINK_KEY, location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  return /^(case_[0-9a-z]{26})\/(secret_[\w-]+)$/.exec(sessionStorage.getItem(LINK_KEY) ?? "");
}

function show(name) {
  for (const section of document.querySelectorAll("[data-screen]")) section.hidden = section.dataset.screen !== name;
  const heading = document.querySelector(`[data-screen="${name}"] h1`);
  heading.tabIndex = -1;
  heading.focus(); // so that a screen reader announces the new screen
}

function text(id, words) {
  $(id).textContent = words ?? "";
  $(id).hidden = !words;
}

function list(id, lines) {
  $(id).replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  $(id).hidden = !lines.length;
}

const nextStep = (view) => (view.status === "requires_input" ? view.steps.find((one) => one.state !== "received") : undefined);

function drawSteps(view, current) {
  list("steps", view.steps.map((one) => STEPS[one.step].name));
  view.steps.forEach((one, at) => {
    const item = $("steps").children[at];
    item.classList.toggle("received", one.state === "received");
    if (one === current) item.setAttribute("aria-current", "step");
  });
  $("sandbox").hidden = view.livemode;
}

/** Shows one prompt after the other, with the elapsed time. */
async function showPrompts(lines) {
  const all = lines.reduce((sum, [, seconds]) => sum + seconds, 0);
  const began = performance.now();
  $("time").hidden = false;
  $("film-how").hidden = true; // the prompt takes its place, near the camera
  const clock = setInterval(() => ($("time").value = (performance.now() - began) / 1000 / all), 100);
  try {
    for (const [words, seconds] of lines) {
      text("prompt", words);
      await pause(seconds);
    }
  } finally {
    clearInterval(clock);
    $("time").hidden = true;
    text("prompt", "");
  }
}

// The outline lies over the picture itself, whichever way the device is held.
for (const type of ["loadedmetadata", "resize"]) {
  $("preview").addEventListener(type, ({ target }) => {
    $("stage").style.setProperty("--ratio", target.videoWidth / target.videoHeight);
  });
}

/** Lets the person record a step or choose a file; returns a Blob. A file can be chosen while the browser asks for
 * access to the camera. */
async function capture(step, challenge, notice) {
  const words = STEPS[step.step];
  const isVideo = step.accepts.includes("video");
  let stream = null;
  let over = false;
  text("film-title", words.title);
  list("film-reasons", step.reasons.map((reason) => reason.message));
  text("film-how", isVideo ? words.how : words.still);
  text("film-notice", notice);
  $("stage").className = step.step === "face" ? "face mirrored" : "card";
  $("stage").hidden = $("record").hidden = true;
  $("file-label").hidden = false;
  $("file").accept = step.accepts.map((kind) => `${kind}/*`).join(",");
  $("file").capture = step.step === "face" ? "user" : "environment";
  $("file").value = "";
  const chosen = firstEvent([$("record"), "click"], [$("file"), "change"]);
  if (isVideo) {
    openCamera(step.step).then((opened) => {
      if (over) return closeCamera(opened);
      stream = opened;
      $("preview").srcObject = opened;
      $("stage").hidden = $("record").hidden = !opened;
      if (!opened) text("film-notice", [notice, NO_CAMERA].filter(Boolean).join(" "));
    });
  }
  show("film");
  try {
    const event = await chosen;
    if (event.type === "change") return $("file").files[0];
    $("record").disabled = $("file-label").hidden = true;
    return await record(stream, step.step, () => showPrompts(script(step.step, challenge)));
  } finally {
    over = true;
    $("record").disabled = false;
    $("preview").srcObject = null;
    closeCamera(stream);
  }
}

/** Shows the recording; returns whether the person wants to send it. */
async function confirmed(step, blob) {
  const url = URL.createObjectURL(blob);
  const isVideo = !blob.type.startsWith("image/");
  try {
    $("playback").hidden = !isVideo;
    $("still").hidden = isVideo;
    $(isVideo ? "playback" : "still").src = url;
    text("look-how", STEPS[step.step].look);
    show("look");
    if (isVideo) $("playback").play().catch(() => {}); // if the browser does not start it, the person can use the controls
    const event = await firstEvent([$("send"), "click"], [$("again"), "click"]);
    return event.target === $("send");
  } finally {
    for (const id of ["playback", "still"]) $(id).removeAttribute("src");
    $("playback").load(); // otherwise it keeps loading the URL that is revoked below
    URL.revokeObjectURL(url);
  }
}

/** Records, confirms and sends one step. Returns a message for the person if it must be repeated, otherwise "". */
async function completeStep(theCase, step, challenge, notice) {
  let blob;
  try {
    blob = await capture(step, challenge, notice);
  } catch {
    return CAMERA_STOPPED;
  }
  if (!(await confirmed(step, blob))) return "";
  show("sending");
  try {
    await send(theCase, step.step, blob, (part, lost) => {
      $("sent").value = part;
      text("sending-notice", lost ? DISCONNECTED : "");
    });
  } catch (error) {
    if (!(error instanceof ProblemError) || [401, 403].includes(error.status)) throw error;
    return error.message;
  }
  return "";
}

/** Waits until the case needs another upload or has ended, and returns it. */
async function waitForResult(theCase) {
  show("waiting");
  for await (const _ of theCase.events()) {
    const view = await theCase.view();
    if (ENDED.has(view.status) || nextStep(view)) return view;
  }
  return theCase.view();
}

/** Runs a case to its end; returns title and text of the last screen. */
async function run(theCase) {
  let view = await theCase.view();
  if (nextStep(view)) {
    list("wanted", view.steps.map((one) => STEPS[one.step].wanted));
    text("host", location.host);
    drawSteps(view);
    show("intro");
    await firstEvent([$("start"), "click"]);
  }
  for (let notice = ""; !ENDED.has(view.status); ) {
    const step = nextStep(view);
    drawSteps(view, step);
    if (step) {
      notice = await completeStep(theCase, step, view.challenge, notice);
      view = await theCase.view();
      if (nextStep(view)?.step !== step.step) notice = ""; // another device may have sent it meanwhile
    } else {
      view = await waitForResult(theCase);
    }
  }
  drawSteps(view);
  return ending(view);
}

async function main() {
  const [, id, secret] = link() ?? [];
  let words = NOT_A_LINK;
  let again = false;
  try {
    if (secret) words = await run(new Case(id, secret));
  } catch (error) {
    const refused = error instanceof ProblemError && [401, 403, 404].includes(error.status);
    words = refused ? LINK_EXPIRED : SERVICE_ERROR;
    again = !refused;
  }
  text("ended-title", words[0]);
  text("ended-text", words[1]);
  $("retry").hidden = !again;
  $("retry").onclick = () => location.reload();
  show("ended");
}

addEventListener("hashchange", () => location.reload()); // another link was opened in the same tab
main();
