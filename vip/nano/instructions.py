"""The instructions that the nano captioner was trained on, as plain text; caption specs use them word for word."""

import numpy as np

GRID = 16
"""The kept box is told in sixteenths of the view."""

JOINT = "Describe centre and surrounding. Kept {box}."
"""Whole view; ``{box}`` is told by ``kept_box``."""

SPLIT_CENTRE = "Describe the centre."
"""The surrounding is blanked with mid-grey."""

SPLIT_SURROUNDING = "Describe the surrounding."
"""The kept part is blanked with mid-grey."""

IMAGINE = "Imagine the surrounding. Kept {box}."
"""The surrounding is blanked with mid-grey."""

IMAGINE_KEYWORDS = "Imagine the surrounding. Kept {box}. Use: {keywords}."
"""As ``IMAGINE``, with keywords the surrounding must hold, joined with ``", "``."""

BLANK = 128
"""Value of all three channels where a part is blanked."""


def kept_box(mask: np.ndarray) -> str:
    """The bounding box of the kept part, in sixteenths: ``4 4 12 12`` (left, top, right, bottom) for the central half.

    Args:
        mask: uint8 [H, W]; 1 = generate, 0 = keep. A kept part that is no box (an irregular brush) is told by
            its bounds, which the captioner was not trained on.
    """
    height, width = mask.shape
    kept_rows, kept_columns = np.flatnonzero((mask == 0).any(axis=1)), np.flatnonzero((mask == 0).any(axis=0))
    left, right = kept_columns[0] * GRID / width, (kept_columns[-1] + 1) * GRID / width
    top, bottom = kept_rows[0] * GRID / height, (kept_rows[-1] + 1) * GRID / height
    return f"{round(left)} {round(top)} {round(right)} {round(bottom)}"


def blank(pixels: np.ndarray, mask: np.ndarray, *, part: int) -> np.ndarray:
    """``pixels`` with mid-grey where ``mask`` equals ``part`` (1 blanks the surrounding, 0 the kept part)."""
    return np.where(mask[..., None] == part, np.uint8(BLANK), pixels)
