/** Access to the device's cameras: a live stream, and a recording of a few seconds. */

const KINDS = ["video/mp4;codecs=avc1", "video/mp4", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const BITS_A_SECOND = { card: 10_000_000, face: 5_000_000 };
/** The letters on a card are small, and no check can restore details that the codec removes. */

const kind = () => KINDS.find((one) => globalThis.MediaRecorder?.isTypeSupported(one));

/** The stream of the camera for the step; null if there is none, access is denied, or it cannot be recorded. */
export async function openCamera(step) {
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

export function closeCamera(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Records while `during` runs and returns a Blob with its media type. Throws if the camera stops meanwhile. */
export async function record(stream, step, during) {
  const bits = BITS_A_SECOND[step === "face" ? "face" : "card"];
  const recorder = new MediaRecorder(stream, { mimeType: kind(), videoBitsPerSecond: bits });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const stopped = new Promise((done, failed) => {
    recorder.onstop = done;
    recorder.onerror = (event) => failed(event.error ?? new Error("The recorder failed."));
  });
  const cameraStopped = new Promise((_, failed) => {
    for (const track of stream.getTracks()) track.onended = () => failed(new Error("The camera stopped."));
  });
  recorder.start();
  try {
    await Promise.race([during(), cameraStopped]);
  } finally {
    if (recorder.state !== "inactive") recorder.stop();
  }
  await stopped;
  return new Blob(parts, { type: recorder.mimeType.split(";")[0] });
}
