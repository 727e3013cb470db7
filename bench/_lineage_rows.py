"""Rows made up for tests and benchmarks of lineage: the same seed, the same rows."""

import hashlib
import random
from datetime import UTC, datetime
from typing import Any

from schemas.bank import Bank
from schemas.canonical import canonical_json, fingerprint
from schemas.region import CentreRegion
from schemas.spec import CaptionSpec, ModelIdentity

WHEN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BANK = Bank()
VIEW, REGION = BANK.view, BANK.regions[0]
WORDS = ("wolf", "ball", "house", "tree", "rock", "sea", "hill", "cloud", "bird", "road", "snow", "field")


def make_spec(name: str = "keywords", prompt: str = "Describe centre and surrounding of {region}.") -> CaptionSpec:
    return CaptionSpec(
        name=name,
        strategy="joint",
        model=ModelIdentity(id="nano", revision="ab" * 32, server="vllm 0.32.0", dtype="float32"),
        templates={"joint": prompt},
    )


def picture(number: int) -> bytes:
    """Bytes that stand for an image; nothing here decodes them."""
    return f"picture {number} ".encode() * 8


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def split_of(key: str) -> str:
    return "test" if int(key[:4], 16) % 5 == 0 else "train"


def bits_of(key: str, bits: int) -> str:
    return f"{int(key, 16):0256b}"[:bits]


def words(seed: str) -> str:
    pick = random.Random(seed)
    return f"{pick.choice(WORDS)}; {pick.choice(WORDS)}, {pick.choice(WORDS)}"


def sample_row(key: str, size: int, member: str, offset: int | None) -> dict[str, Any]:
    return {
        "image_sha256": key,
        "split": split_of(key),
        "format": "PNG",
        "width": 64,
        "height": 64,
        "orientation": 1,
        "mode": "RGB",
        "bytes": size,
        "member": member,
        "offset": offset,
    }


def caption_row(key: str, spec_id: str, text: str, request_id: str, region: CentreRegion = REGION) -> dict[str, Any]:  # type: ignore[assignment]
    centre, surrounding = text.split("; ")
    return {
        "caption_id": fingerprint([key, VIEW.id, region.id, spec_id])[:32],
        "image_sha256": key,
        "view": VIEW.id,
        "region": region.id,
        "view_json": canonical_json(VIEW.model_dump(mode="json")).decode(),
        "region_json": canonical_json(region.model_dump(mode="json")).decode(),
        "spec_id": spec_id,
        "centre": centre,
        "surrounding": surrounding,
        "total": text,
        "tokens_centre": 4,
        "tokens_surrounding": 5,
        "tokens_total": 7,
        "cut": "",
        "leak": [],
        "request_ids": [request_id],
        "draws": [0],
    }


def answer_row(key: str, request_id: str, text: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "image_sha256": key,
        "view": VIEW.id,
        "region": REGION.id,
        "part": "joint",
        "draw": 0,
        "text": f"raw: {text}",
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 6,
        "attempts": 1,
        "seconds": 0.25,
        "answered_at": WHEN,
        "model_id": "nano@abababababababab",
        "endpoint": "http://127.0.0.1:8000/v1",
        "server": "vllm 0.32.0",
    }


def metric_row(checkpoint: str, caption_set: str, name: str, number: int) -> dict[str, Any]:
    metric = ("frechet_distance", "kid", "psnr_known_unpasted")[number % 3]
    return {
        "metric_id": fingerprint([checkpoint, caption_set, name])[:32],
        "metric": metric,
        "value": 20.0 + number,
        "n": 100,
        "setting": "oracle",
        "checkpoint": checkpoint,
        "caption_set": caption_set,
        "view": VIEW.id,
        "region": REGION.id,
        "network": None if metric == "psnr_known_unpasted" else "efficientnet-lite0@123456789abc",
        "unit": "squared feature distance",
    }
