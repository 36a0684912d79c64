"""Every reason code, with the text that the person is shown: what is wrong, and what they can do about it.

What a code means for the decision is not said here: the policy of the profile says it.
"""

from __future__ import annotations

from graphs.records import Reason, Step

REASONS: dict[str, str] = {
    # image quality
    "dark_photo": "The picture is too dark. Film again with more light.",
    "glare_on_photo": "A reflection covers part of the document. Tilt it away from lamps and windows.",
    "blurred_photo": "The picture is blurred. Hold the camera still and wait until it is sharp.",
    "cut_off_document": "Part of the document is outside the picture. Show the whole document.",
    "no_document_in_image": "No document can be seen. Show the whole document to the camera.",
    "two_documents_uploaded": "More than one document can be seen. Show one document alone.",
    "low_resolution": "The document or face is too small in the picture. Move closer to the camera.",
    "mirrored_picture": "The document appears mirrored. Turn mirroring off and film again.",
    "incorrect_side": "This is the wrong side of the document. Show the other side.",
    "no_face_in_video": "No face can be seen. Hold your face in front of the camera.",
    "several_faces_in_video": "More than one face can be seen. Film yourself alone.",
    "undecodable_media": "The recording is damaged and cannot be played. Record it again.",
    # original document
    "photo_of_screen": "The document was shown on a screen. The document itself is needed.",
    "gray_copy": "The document is a grey copy. The document itself is needed.",
    "no_hologram_seen": "The document's hologram was not seen. Tilt the document slowly while you film it.",
    "altered_text": "A printed field of the document looks changed.",
    # data
    "document_expired": "The document has expired.",
    "mrz_check_digit": "A check digit of the machine-readable zone is wrong.",
    "mrz_unreadable": "The machine-readable zone cannot be read. Film it without blur, reflections or fingers on it.",
    "barcode_unreadable": "The barcode cannot be read.",
    "data_mismatch": "The document states different details in different places.",
    "data_not_found": "A detail of the document could not be confirmed on its front.",
    "date_of_birth_invalid": "The date of birth is not possible.",
    # person
    "selfie_document_missing_photo": "No portrait was found on the document.",
    "selfie_face_mismatch": "The face is not the one on the document.",
    "liveness_failed": "It could not be confirmed that a live person was in front of the camera.",
    "challenge_not_followed": "The requested movements were not seen. Film again and follow the instructions in order.",
    "planar_motion": "The recording shows a flat picture of a face.",
    "screen_replay": "The face was shown on a screen.",
    "flickering_light": "Bands of light run through the picture. Film away from flickering lamps and screens.",
    "screen_suspected": "The picture shows traces of a screen. Film your face directly, away from screens and lamps.",
    "face_changed_in_video": "The face changes within the recording.",
    "source_repeated_frames": "The recording contains repeated or frozen frames.",
    # the system
    "check_not_clear": "A check that must be clear could not be completed.",
}


def reason(code: str, check: str, step: Step | None, *, retryable: bool = False) -> Reason:
    """The reason `code` as given by `check` about `step`. Raises KeyError for a code that is not in the table."""
    return Reason(code=code, check=check, message=REASONS[code], retryable=retryable, step=step)
