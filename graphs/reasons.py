"""Every reason code, with the sentence that a person is shown. What a code *means* for the decision is policy data."""

from __future__ import annotations

from graphs.records import Reason, Step

REASONS: dict[str, str] = {
    # image quality
    "dark_photo": "The picture is too dark.",
    "glare_on_photo": "A reflection covers part of the document.",
    "blurred_photo": "The picture is blurred.",
    "cut_off_document": "Part of the document is outside the picture.",
    "no_document_in_image": "No document can be seen.",
    "two_documents_uploaded": "More than one document can be seen.",
    "low_resolution": "The document or face is too small in the picture.",
    "mirrored_picture": "The document is shown as in a mirror: film it with mirroring turned off.",
    "incorrect_side": "This is not the side of the document that was asked for.",
    "no_face_in_video": "No face can be seen.",
    "several_faces_in_video": "More than one face can be seen.",
    "undecodable_media": "The recording is damaged and cannot be played.",
    # original document
    "photo_of_screen": "The document was shown on a screen.",
    "gray_copy": "The document is a grey copy.",
    "no_hologram_seen": "The document's optically variable feature was not seen.",
    "altered_text": "A printed field of the document looks changed.",
    # data
    "document_expired": "The document has expired.",
    "mrz_check_digit": "A check digit of the machine-readable zone is wrong.",
    "mrz_unreadable": "The machine-readable zone cannot be read.",
    "barcode_unreadable": "The barcode cannot be read.",
    "data_mismatch": "The document contradicts itself.",
    "data_not_found": "A field of the document could not be confirmed on its front.",
    "date_of_birth_invalid": "The date of birth is not possible.",
    # person
    "selfie_document_missing_photo": "No portrait was found on the document.",
    "selfie_face_mismatch": "The face is not the one on the document.",
    "liveness_failed": "It could not be shown that a living person was in front of the camera.",
    "challenge_not_followed": "The movements that were asked for were not seen.",
    "planar_motion": "A flat picture of a face was moved.",
    "screen_replay": "The face was shown on a screen.",
    "flickering_light": "Bands of light run through the picture: film away from flickering lamps and screens.",
    "screen_suspected": "The picture has faint traces of a screen: film the face itself, away from screens and lamps.",
    "face_changed_in_video": "The face changes within the recording.",
    "source_repeated_frames": "The recording holds repeated or frozen frames.",
    # the system
    "check_not_clear": "A check that must be clear could not be completed.",
}


def reason(code: str, check: str, step: Step | None, *, retryable: bool = False) -> Reason:
    """The reason `code` as given by `check` about `step`. Raises KeyError for a code that is not in the table."""
    return Reason(code=code, check=check, message=REASONS[code], retryable=retryable, step=step)
