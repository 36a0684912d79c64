/** The device's cameras: what they see, and a recording of some seconds of it. */

const KINDS = ["video/mp4;codecs=avc1", "video/mp4", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const BITS_A_SECOND = { card: 10_000_000, face: 5_000_000 };
/** A card's letters are small, and what a codec takes of them no check brings back. */

const kind = () => KINDS.find((one) => globalThis.MediaRecorder?.isTypeSupported(one));

/** The stream of the camera that fits the step; null where there is none, it may not be used, or it cannot be recorded. */
export async function opened(step) {
  if (!navigator.mediaDevices?.getUserMedia || !kind()) return null;
  const face = step === "face";
  const video = {
    facingMode: { ideal: face ? "user" : "environment" },
    width: { ideal: face ? 1280 : 1920 },
    height: { ideal: face ? 720 : 1080 },
    frameRate: { ideal: 30 },
  };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch {
    return null;
  }
}

export function closed(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Records while `during` runs: a Blob of its own type. Throws where the camera goes away meanwhile. */
export async function recorded(stream, step, during) {
  const bits = BITS_A_SECOND[step === "face" ? "face" : "card"];
  const recorder = new MediaRecorder(stream, { mimeType: kind(), videoBitsPerSecond: bits });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const stopped = new Promise((done, failed) => {
    recorder.onstop = done;
    recorder.onerror = (event) => failed(event.error ?? new Error("the recorder failed"));
  });
  const gone = new Promise((_, failed) => {
    for (const track of stream.getTracks()) track.onended = () => failed(new Error("the camera went away"));
  });
  recorder.start();
  try {
    await Promise.race([during(), gone]);
  } finally {
    if (recorder.state !== "inactive") recorder.stop();
  }
  await stopped;
  return new Blob(parts, { type: recorder.mimeType.split(";")[0] });
}
