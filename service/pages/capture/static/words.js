/** All texts of the page. Reasons for a retake and details of errors come from the service. */

const MOVES = {
  turn_left: "← Turn your head to the left",
  turn_right: "Turn your head to the right →",
  look_up: "↑ Look up",
  look_down: "↓ Look down",
  move_closer: "Move closer to the camera",
};
const STRAIGHT = "Look straight into the camera";

export const STEPS = {
  front: {
    name: "Front",
    wanted: "the front of your ID card, the side with your photo",
    title: "Front of your ID card",
    how: "Lay the card on a plain, dark surface, away from lamps that cause reflections. Keep all four corners in the frame.",
    still: "Take a photo of the front of the card with all four corners in the picture.",
    look: "Check that all four corners are visible, every letter is sharp, and there are no reflections.",
  },
  back: {
    name: "Back",
    wanted: "the back of your ID card",
    title: "Back of your ID card",
    how: "Turn the card over. Keep all four corners in the frame and the lines with the < signs sharp.",
    still: "Take a photo of the back of the card with all four corners in the picture.",
    look: "Check that all four corners are visible, the lines with the < signs are sharp, and there are no reflections.",
  },
  face: {
    name: "Face",
    wanted: "your face",
    title: "Your face",
    how: "Hold the device at eye level in even light. Be alone in the picture and take off hat and sunglasses. Make each movement when you are asked to, then look straight into the camera again.",
    still: "Take a photo of your face.",
    look: "Check that your face is in the picture the whole time and well lit.",
  },
};

/** The prompts while a step is recorded, as pairs of text and seconds. After each movement the person looks straight. */
export function script(step, challenge) {
  if (step === "front") return [["Hold still", 1.5], ["Tilt the card a little, slowly", 2.5]];
  if (step === "back") return [["Hold still", 3]];
  const moves = challenge.flatMap((move) => [[MOVES[move] ?? move, 2.2], [STRAIGHT, 1.2]]);
  return [[STRAIGHT, 1], ...(moves.length ? moves : [["Turn your head a little to both sides, slowly", 4]])];
}

/** Title and text for the person when the case has ended. */
export function ending(view) {
  const outcome = view.decision?.outcome;
  if (view.status === "in_review") {
    return ["Thank you", "A person will check your recordings. You do not need to do anything else. You can close this page."];
  }
  if (view.status === "completed" && outcome === "approved") {
    return ["Done", "Your identity is verified. You can close this page."];
  }
  if (view.status === "completed") {
    return ["Not verified", "Your identity could not be verified. Contact the company that sent you this link."];
  }
  if (view.status === "expired") return ["Expired", "The recordings did not arrive in time. Ask the company that sent you this link for a new one."];
  return ["Closed", "This verification was canceled. Contact the company that sent you this link."];
}

export const NOT_A_LINK = ["This link is not complete", "Open the whole link that you received, including everything after the # sign."];
export const LINK_EXPIRED = ["This link has expired", "Ask the company that sent it for a new one."];
export const SERVICE_ERROR = ["Something went wrong", "The service has a problem. Try again in a few minutes."];
export const NO_CAMERA = "The camera cannot be used. Allow this page to use it in the settings of your browser, or choose a file.";
export const CAMERA_STOPPED = "The recording stopped. Film again.";
export const DISCONNECTED = "The connection was lost. Sending continues as soon as it is back.";
