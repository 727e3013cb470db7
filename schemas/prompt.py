"""The total prompt: the centre and the surrounding as one string, the form that the method trains on."""


def total_prompt(centre: str, surrounding: str) -> str:
    """``Center: wolf, fur; Surrounding: forest, snow``; with nothing filled in, ``Center:; Surrounding:``."""
    return f"{f'Center: {centre}'.rstrip()}; {f'Surrounding: {surrounding}'.rstrip()}"
