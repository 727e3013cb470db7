"""What a person reads in place of an identifier."""

from collections.abc import Mapping
from typing import Any

SETTINGS: Mapping[str, tuple[str, str]] = {
    "oracle": ("Oracle captions", "the captioner saw the whole image"),
    "centre_only": ("Centre-only captions", "the captioner saw only the known part and imagined the rest"),
    "unconditional": ("Unconditional", "no text: Center:; Surrounding:"),
    "control:swapped": ("Swapped", "control: centre and surrounding text exchanged"),
    "control:shuffled": ("Shuffled", "control: the caption of another image"),
    "control:noise": ("Noise", "control: the rest is uniform noise"),
    "control:real": ("Real images", "floor: other real images against these"),
}

# label, better direction, decimals
_METRICS: Mapping[str, tuple[str, str, int]] = {
    "frechet_distance": ("Fréchet distance", "lower", 2),
    "kid": ("Kernel distance", "lower", 4),
    "inception_score": ("Inception Score", "higher", 3),
    "inception_score_10": ("Inception Score, ten parts", "higher", 3),
    "psnr_known_unpasted": ("PSNR of the known part, as generated", "higher", 2),
    "psnr_known_pasted": ("PSNR of the known part, pasted", "higher", 2),
    "ssim_known_unpasted": ("SSIM of the known part, as generated", "higher", 3),
    "clip_score": ("CLIPScore", "higher", 2),
    "clip_score_centre": ("CLIPScore of the kept part", "higher", 2),
    "clip_score_surrounding": ("CLIPScore of the generated part", "higher", 2),
    "lpips_known_unpasted": ("LPIPS of the known part, as generated", "lower", 3),
    "seam_error": ("Seam error", "lower", 2),
    "obedience": ("Obedience to the surrounding text", "higher", 3),
    "contamination": ("Contamination by the centre text", "lower", 3),
    "diversity": ("Diversity across seeds", "", 3),
    "known_part_exact": ("Known part bit-exact", "higher", 3),
}

# The names that belong to the Inception v3 they were defined on, with its own weights, and to nothing else.
_ON_INCEPTION: Mapping[str, str] = {
    "frechet_distance": "FID",
    "kid": "KID",
    "inception_score": "Inception Score",
    "inception_score_10": "Inception Score, ten parts",
}


def setting_label(setting: str) -> str:
    """Such as ``Oracle captions``."""
    return SETTINGS.get(setting, (setting, ""))[0]


def metric_label(row: Mapping[str, Any]) -> str:
    """The metric's name, with the feature network's in it where there is one: "FID" only where it is that."""
    metric = _pasted(row["metric"])
    form = "" if metric == row["metric"] else ", as generated"
    label = _METRICS.get(metric, (metric.replace("_", " "), "", 4))[0]
    if not row["network"]:
        return label
    network = row["network"].partition("@")[0]
    if metric.startswith(("clip_", "lpips_")):
        return f"{label} ({network})"
    if network == "inception-v3-fid" and metric in _ON_INCEPTION:
        return _ON_INCEPTION[metric] + form
    kind = "classes" if metric.startswith("inception_score") else "features"
    return f"{label}{form} ({network} {kind})"


def _pasted(metric: str) -> str:
    """The distance whose variant for pictures as generated this is; any other metric as it stands."""
    plain = metric.removesuffix("_unpasted")
    return plain if plain in _ON_INCEPTION else metric


def metric_better(metric: str) -> str:
    """``lower``, ``higher`` or nothing."""
    return _METRICS.get(_pasted(metric), ("", "", 4))[1]


def number(metric: str, value: float | None) -> str:
    """A value with the decimals that its metric deserves."""
    if value is None:
        return ""
    return f"{value:.{_METRICS.get(_pasted(metric), ('', '', 4))[2]}f}"


def duration(seconds: float) -> str:
    """Such as ``0.4 s``, ``12 s`` or ``3 min 5 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count(value: int) -> str:
    """With a thin space between thousands."""
    return f"{value:,}".replace(",", "\u202f")
