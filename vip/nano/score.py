"""``vip nano score``: every figure of the nano family, on any seeds."""

from pathlib import Path
from typing import Any

from schemas.errors import VipError
from storage.models import nano_folder
from vip.nano.scene import TRAINING_SEEDS

OBEDIENCE_PICTURES = 256


def parse_seeds(text: str) -> range:
    """``START:STOP`` as a range.

    Raises:
        VipError: where it is none, or holds seeds that were trained on.
    """
    start, separator, stop = text.partition(":")
    if not (separator and start.isdecimal() and stop.isdecimal()) or int(stop) <= int(start):
        raise VipError(f"seeds {text!r} are no range", "give START:STOP, such as 0:2000")
    if int(stop) > TRAINING_SEEDS:
        raise VipError(f"seeds from {TRAINING_SEEDS} on were trained on", "give seeds below that")
    return range(int(start), int(stop))


def score(
    seeds: range,
    endpoint: str | None = None,
    *,
    weights: Path | None = None,
    obedience_pictures: int = OBEDIENCE_PICTURES,
) -> dict[str, Any]:
    """Score the family on ``seeds``.

    Args:
        seeds: held-out seeds.
        endpoint: base URL of a vLLM that serves the captioner; None leaves the captioner out.
        weights: folder with ``base`` and ``probe``; None takes the committed ones.
        obedience_pictures: how many of the seeds are painted (0.2 to 1 s each); 0 leaves that out.

    Returns:
        Plain numbers, ready for JSON: ``captioner``, ``autoencoder``, ``probe``, ``base``.
    """
    from vip.nano.probe import load
    from vip.nano.score_base import (
        load_base,
        pictures_of,
        rebuild,
        score_autoencoder,
        score_obedience,
        score_probe,
    )
    from vip.nano.score_captioner import score_captioner

    pipeline = load_base(weights / "base" if weights else nano_folder("base"))
    probe = load(weights / "probe" if weights else nano_folder("probe"))
    pictures, labels = pictures_of(seeds)
    rebuilt = rebuild(pipeline.vae, pictures)
    result: dict[str, Any] = {"seeds": f"{seeds.start}:{seeds.stop}"}
    if endpoint is not None:
        result["captioner"] = score_captioner(endpoint, seeds)
    result["autoencoder"] = score_autoencoder(pipeline.vae, pictures)
    result["probe"] = score_probe(probe, pictures, rebuilt, labels)
    if obedience_pictures:
        result["base"] = score_obedience(pipeline, probe, seeds[:obedience_pictures])
    return result
