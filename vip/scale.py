"""What captioning many millions of images takes: requests, tokens, GPU-days, objects, bytes, look-ups, index and money.

Arithmetic on rates that were measured on one engine and one root; docs/scale.md shows it for 100 million images.

    python -m vip.scale --images 100000000 --engines 64 --rate 11.9
"""

import math
from dataclasses import dataclass, fields

from storage.claims import BEAT_SECONDS

SHARD_OBJECTS = 5
"""Of a shard: ``samples.tar``, ``samples.parquet``, ``rejects.parquet``, its manifest, its publication."""

CAPTIONS_OBJECTS = 5
"""Of the captions of a shard: ``captions.parquet``, ``rejects.parquet``, manifest, publication; and its claim."""

SEGMENT_OBJECTS = 2
"""Of a segment of answers: its Parquet file and its record."""

FIXED_OBJECTS = 11
"""Of a dataset (5), a caption set (3), a partition of answers (1), a ref (1), the end of an asking process (1)."""

FINISHED_LOOKUPS = 3
"""Objects that a plan reads to find the captions of one shard finished."""

ANSWER_LOOKS = 3
"""Looks for the answers of one shard while it is captioned: by the plan, by who asks, and for its captions. One more is
taken before each segment is published. A look is a listing for each key bit of the shard, and one."""

SAMPLE_BYTES = 1_500 + 76 + 40
"""Beside the image itself: two headers and the description in the tar, a row of ``samples.parquet``, a name."""

ANSWER_BYTES = 178
"""Of one answer of some 50 words in a segment."""

CAPTION_BYTES = 272
"""Of one row of ``captions.parquet`` with such an answer."""

INDEX_BYTES = 197
"""Of one image and its caption in the lineage index; 1,000,000 of them, docs/log.md, 2026-11-22."""

LIST_PAGE = 1_000
"""Names in one answer of S3 to a listing."""

DAY = 86_400


@dataclass(frozen=True)
class Workload:
    """What is to be captioned, by what, at which prices.

    Attributes:
        images: in the dataset.
        image_bytes: mean size of an image as it lies in the shard.
        bits: key bits of the shards; there are 2 to the power of it, 20 at most.
        requests: for one image: 1 for a joint spec, 2 for a split one, times the regions of the bank.
        prompt_tokens, completion_tokens: of one request, image included.
        rate: answers a second of one engine.
        engines: that answer at once.
        gpu_hour: price of one engine for an hour.
        gb_month: price of a gigabyte (10^9 bytes) stored for a month.
        put, get: prices of a thousand writes or listings, and of a thousand reads.
        publish_every: seconds between segments of answers.
    """

    images: int = 100_000_000
    image_bytes: int = 100_000
    bits: int = 17
    requests: int = 1
    prompt_tokens: int = 450
    completion_tokens: int = 64
    rate: float = 11.9
    engines: int = 64
    gpu_hour: float = 2.0
    gb_month: float = 0.023
    put: float = 0.005
    get: float = 0.0004
    publish_every: float = 5.0


@dataclass(frozen=True)
class Bill:
    """What a workload takes; see :func:`bill`.

    Attributes:
        seconds: of captioning, all engines busy.
        segments: of answers: each shard ends one, each publication cuts one.
        objects: in the store, beats of one asking process among them.
        listing: requests that list every object once.
        answer_listings: requests that list answers, while all of it is captioned.
        lookups: reads by which a plan finds everything finished.
        gpu_cost, request_cost: once; the second for writing every object, for these listings and one such plan.
        storage_cost: a month.
    """

    shards: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    gpu_days: float
    seconds: float
    segments: int
    objects: int
    shard_bytes: int
    bytes: int
    listing: int
    answer_listings: int
    lookups: int
    index_bytes: int
    gpu_cost: float
    request_cost: float
    storage_cost: float


def bill(work: Workload) -> Bill:
    """The arithmetic."""
    shards, requests = 2**work.bits, work.images * work.requests
    gpu_seconds = requests / work.rate
    seconds = gpu_seconds / work.engines
    segments = shards + math.ceil(seconds / work.publish_every)
    beats = math.ceil(seconds / BEAT_SECONDS)
    objects = shards * (SHARD_OBJECTS + CAPTIONS_OBJECTS) + segments * SEGMENT_OBJECTS + beats + FIXED_OBJECTS
    stored = work.images * (work.image_bytes + SAMPLE_BYTES + CAPTION_BYTES) + requests * ANSWER_BYTES
    answer_listings = (shards * ANSWER_LOOKS + segments) * (work.bits + 1)
    listing, lookups = math.ceil(objects / LIST_PAGE), shards * FINISHED_LOOKUPS
    return Bill(
        shards=shards,
        requests=requests,
        prompt_tokens=requests * work.prompt_tokens,
        completion_tokens=requests * work.completion_tokens,
        gpu_days=gpu_seconds / DAY,
        seconds=seconds,
        segments=segments,
        objects=objects,
        shard_bytes=round(work.images / shards * (work.image_bytes + SAMPLE_BYTES)),
        bytes=stored,
        listing=listing,
        answer_listings=answer_listings,
        lookups=lookups,
        index_bytes=work.images * INDEX_BYTES,
        gpu_cost=gpu_seconds / 3600 * work.gpu_hour,
        request_cost=(objects + listing + answer_listings) / 1000 * work.put + lookups / 1000 * work.get,
        storage_cost=stored / 1e9 * work.gb_month,
    )


def rows(found: Bill) -> list[tuple[str, str]]:
    """A bill as (what, how much) for people."""
    return [
        ("requests", f"{found.requests:,}"),
        ("prompt tokens", f"{found.prompt_tokens / 1e9:,.1f} billion"),
        ("completion tokens", f"{found.completion_tokens / 1e9:,.1f} billion"),
        ("GPU-days", f"{found.gpu_days:,.0f}"),
        ("days on the wall", f"{found.seconds / DAY:,.1f}"),
        ("shards", f"{found.shards:,} of {found.shard_bytes / 1e6:,.0f} MB"),
        ("objects", f"{found.objects:,}, {found.segments:,} segments of answers among them"),
        ("bytes in the store", f"{found.bytes / 1e12:,.2f} TB"),
        ("one listing of everything", f"{found.listing:,} requests"),
        ("listings of answers while captioning", f"{found.answer_listings:,} requests"),
        ("a plan that finds all of it done", f"{found.lookups:,} reads"),
        ("lineage index", f"{found.index_bytes / 1e9:,.1f} GB"),
        ("money: GPUs", f"{found.gpu_cost:,.0f}"),
        ("money: requests to the store", f"{found.request_cost:,.2f}"),
        ("money: storage, a month", f"{found.storage_cost:,.0f}"),
    ]


def main() -> None:
    """Print the bill of a workload; every field is an option."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for field in fields(Workload):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="N")
    for what, much in rows(bill(Workload(**vars(parser.parse_args())))):
        print(f"{what:<38}{much}")  # noqa: T201


if __name__ == "__main__":
    main()
