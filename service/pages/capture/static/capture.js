/** A person's way through a case: which step is wanted, film it, look at it, send it; until the case has ended. */

import { closed, opened, recorded } from "./camera.js";
import { Case, pause, ProblemError } from "./case.js";
import { send } from "./upload.js";
import { BROKEN, CAMERA_GONE, ending, LINK_OVER, LOST, NO_CAMERA, NOT_A_LINK, script, STEPS } from "./words.js";

const KEPT = "veridask.link";
const ENDED = new Set(["completed", "in_review", "canceled", "expired", "redacted"]);
const $ = (id) => document.getElementById(id);

/** The first event to come, of pairs of an element and a type. */
function first(...sources) {
  return new Promise((come) => {
    const over = new AbortController();
    for (const [element, type] of sources) {
      element.addEventListener(type, (event) => (over.abort(), come(event)), { signal: over.signal });
    }
  });
}

/** Id and secret out of the link, which leaves the address bar: it would show on photos of the screen and in the
 * browser's history. The tab keeps it for when it is loaded again. */
function link() {
  if (location.hash.length > 1) {
    sessionStorage.setItem(KEPT, location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  return /^(case_[0-9a-z]{26})\/(secret_[\w-]+)$/.exec(sessionStorage.getItem(KEPT) ?? "");
}

function show(name) {
  for (const section of document.querySelectorAll("[data-screen]")) section.hidden = section.dataset.screen !== name;
  const heading = document.querySelector(`[data-screen="${name}"] h1`);
  heading.tabIndex = -1;
  heading.focus(); // so that who does not see the page hears what it shows now
}

function text(id, words) {
  $(id).textContent = words ?? "";
  $(id).hidden = !words;
}

function list(id, lines) {
  $(id).replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  $(id).hidden = !lines.length;
}

const wanted = (view) => (view.status === "requires_input" ? view.steps.find((one) => one.state !== "received") : undefined);

function drawSteps(view, current) {
  list("steps", view.steps.map((one) => STEPS[one.step].name));
  view.steps.forEach((one, at) => {
    const item = $("steps").children[at];
    item.classList.toggle("received", one.state === "received");
    if (one === current) item.setAttribute("aria-current", "step");
  });
  $("sandbox").hidden = view.livemode;
}

/** Shows what is asked, one after the other, with the time that has gone. */
async function prompted(lines) {
  const all = lines.reduce((sum, [, seconds]) => sum + seconds, 0);
  const began = performance.now();
  $("time").hidden = false;
  $("film-how").hidden = true; // it has been read: what is asked now stands in its place, near the camera
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

// The frame around what is filmed lies over the picture itself, whichever way the device is held.
for (const type of ["loadedmetadata", "resize"]) {
  $("preview").addEventListener(type, ({ target }) => {
    $("stage").style.setProperty("--ratio", target.videoWidth / target.videoHeight);
  });
}

/** What the person films or chooses for a step: a Blob. A file may be chosen while the camera is asked for. */
async function taken(step, challenge, notice) {
  const words = STEPS[step.step];
  const films = step.accepts.includes("video");
  let stream = null;
  let over = false;
  text("film-title", words.title);
  list("film-reasons", step.reasons.map((reason) => reason.message));
  text("film-how", films ? words.how : words.still);
  text("film-notice", notice);
  $("stage").className = step.step === "face" ? "face mirrored" : "card";
  $("stage").hidden = $("record").hidden = true;
  $("file-label").hidden = false;
  $("file").accept = step.accepts.map((kind) => `${kind}/*`).join(",");
  $("file").capture = step.step === "face" ? "user" : "environment";
  $("file").value = "";
  const chosen = first([$("record"), "click"], [$("file"), "change"]);
  if (films) {
    opened(step.step).then((seen) => {
      if (over) return closed(seen);
      stream = seen;
      $("preview").srcObject = seen;
      $("stage").hidden = $("record").hidden = !seen;
      if (!seen) text("film-notice", [notice, NO_CAMERA].filter(Boolean).join(" "));
    });
  }
  show("film");
  try {
    const event = await chosen;
    if (event.type === "change") return $("file").files[0];
    $("record").disabled = $("file-label").hidden = true;
    return await recorded(stream, step.step, () => prompted(script(step.step, challenge)));
  } finally {
    over = true;
    $("record").disabled = false;
    $("preview").srcObject = null;
    closed(stream);
  }
}

/** Whether the person wants to send it. */
async function lookedAt(step, blob) {
  const url = URL.createObjectURL(blob);
  const film = !blob.type.startsWith("image/");
  try {
    $("playback").hidden = !film;
    $("still").hidden = film;
    $(film ? "playback" : "still").src = url;
    text("look-how", STEPS[step.step].look);
    show("look");
    if (film) $("playback").play().catch(() => {}); // where a browser wants a press first, the controls are there
    const event = await first([$("send"), "click"], [$("again"), "click"]);
    return event.target === $("send");
  } finally {
    for (const id of ["playback", "still"]) $(id).removeAttribute("src");
    $("playback").load(); // or it goes on asking for what is revoked below
    URL.revokeObjectURL(url);
  }
}

/** Films, shows and sends one step; gives what to tell the person when it has to be done again, or nothing. */
async function done(theCase, step, challenge, notice) {
  let blob;
  try {
    blob = await taken(step, challenge, notice);
  } catch {
    return CAMERA_GONE;
  }
  if (!(await lookedAt(step, blob))) return "";
  show("sending");
  try {
    await send(theCase, step.step, blob, (part, lost) => {
      $("sent").value = part;
      text("sending-notice", lost ? LOST : "");
    });
  } catch (error) {
    if (!(error instanceof ProblemError) || [401, 403].includes(error.status)) throw error;
    return error.message;
  }
  return "";
}

/** The case once it wants something of the person or has ended. */
async function settled(theCase) {
  show("waiting");
  for await (const _ of theCase.news()) {
    const view = await theCase.view();
    if (ENDED.has(view.status) || wanted(view)) return view;
  }
  return theCase.view();
}

async function walked(theCase) {
  let view = await theCase.view();
  if (wanted(view)) {
    list("wanted", view.steps.map((one) => STEPS[one.step].wanted));
    text("host", location.host);
    drawSteps(view);
    show("intro");
    await first([$("start"), "click"]);
  }
  for (let notice = ""; !ENDED.has(view.status); ) {
    const step = wanted(view);
    drawSteps(view, step);
    if (step) {
      notice = await done(theCase, step, view.challenge, notice);
      view = await theCase.view();
      if (wanted(view)?.step !== step.step) notice = ""; // another device may have sent it meanwhile
    } else {
      view = await settled(theCase);
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
    if (secret) words = await walked(new Case(id, secret));
  } catch (error) {
    const refused = error instanceof ProblemError && [401, 403, 404].includes(error.status);
    words = refused ? LINK_OVER : BROKEN;
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
