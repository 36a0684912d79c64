/** All that a person reads which does not come from the service. */

const MOVES = {
  turn_left: "← Turn your head to the left",
  turn_right: "Turn your head to the right →",
  look_up: "↑ Look up",
  look_down: "↓ Look down",
  move_closer: "Come closer to the camera",
};
const STRAIGHT = "Look straight into the camera";

export const STEPS = {
  front: {
    name: "Front",
    wanted: "the front of your ID card, the side with your photo",
    title: "Front of your ID card",
    how: "Lay the card on a plain, dark surface, away from lamps that mirror in it. Keep all four corners in the frame.",
    still: "Photograph the front of the card, all four corners in the picture.",
    look: "All four corners, every letter sharp, no reflection?",
  },
  back: {
    name: "Back",
    wanted: "its back",
    title: "Back of your ID card",
    how: "Turn the card over. Keep all four corners in the frame, and the lines of letters and < signs sharp.",
    still: "Photograph the back of the card, all four corners in the picture.",
    look: "All four corners, the lines of letters and < signs sharp, no reflection?",
  },
  face: {
    name: "Face",
    wanted: "your face",
    title: "Your face",
    how: "Hold the device at the height of your eyes, in even light, alone in the picture, without hat or sunglasses. Do what is asked, then look straight again.",
    still: "Photograph your face.",
    look: "Your face in the picture all the time, well lit?",
  },
};

/** What is asked while a step is filmed, as pairs of words and seconds. A person returns to the middle after each move. */
export function script(step, challenge) {
  if (step === "front") return [["Hold still", 1.5], ["Tilt the card a little, slowly", 2.5]];
  if (step === "back") return [["Hold still", 3]];
  const moves = challenge.flatMap((move) => [[MOVES[move] ?? move, 2.2], [STRAIGHT, 1.2]]);
  return [[STRAIGHT, 1], ...(moves.length ? moves : [["Turn your head a little to both sides, slowly", 4]])];
}

/** What a case that has ended means for the person. */
export function ending(view) {
  const outcome = view.decision?.outcome;
  if (view.status === "in_review") {
    return ["Thank you", "A person will look at what you sent. You need do nothing more; you can close this page."];
  }
  if (view.status === "completed" && outcome === "approved") {
    return ["Done", "Your identity is verified. You can close this page."];
  }
  if (view.status === "completed") {
    return ["Not verified", "Your identity could not be verified. Who sent you here can tell you how to go on."];
  }
  if (view.status === "expired") return ["The time is over", "Ask who sent you here for a new link."];
  return ["Closed", "This verification was ended. Who sent you here can tell you how to go on."];
}

export const NOT_A_LINK = ["This link is not complete", "Open it again as you received it, with everything after the # sign."];
export const LINK_OVER = ["This link has run out", "Ask who sent you here for a new one."];
export const BROKEN = ["That did not work", "Something is wrong with the service. Try again in a few minutes."];
export const NO_CAMERA = "The camera cannot be used here. Let this page use it in the settings of your browser, or choose a file.";
export const CAMERA_GONE = "The recording stopped. Film again.";
export const LOST = "The connection was lost. Sending goes on as soon as it is back.";
