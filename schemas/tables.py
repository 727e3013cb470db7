"""Arrow schemas of every table in the store. They only gain nullable columns."""

import pyarrow as pa

SAMPLES = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),  # of the original bytes; the sample's key
        pa.field("split", pa.string(), nullable=False),  # train | test
        pa.field("format", pa.string(), nullable=False),  # Pillow's name: JPEG, PNG, ...
        pa.field("width", pa.int32(), nullable=False),  # pixels, as stored, before orientation
        pa.field("height", pa.int32(), nullable=False),
        pa.field("orientation", pa.int8(), nullable=False),  # EXIF 1..8
        pa.field("mode", pa.string(), nullable=False),  # Pillow's mode: RGB, L, RGBA, ...
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("member", pa.string(), nullable=False),  # name inside samples.tar
        pa.field("offset", pa.int64()),  # of the first byte of the image in samples.tar
    ]
)

NAMES = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # relative to the source, one row for each name
        pa.field("shard", pa.string(), nullable=False),  # the bits that the keys of its shard begin with
        pa.field("split", pa.string()),  # train | test; it stays known when a takedown has erased the shard
    ]
)

SHARDS = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),  # the bits that the keys of its samples begin with
        pa.field("digest", pa.string(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("train", pa.int64(), nullable=False),
        pa.field("test", pa.int64(), nullable=False),
    ]
)

SOURCE_REJECTS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # schemas.sharding.RejectReason
        pa.field("detail", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("split", pa.string()),  # of what lies in a shard and was rejected there; a part of the shard's key
    ]
)

SHARD_REJECTS = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # schemas.sharding.RejectReason
        pa.field("detail", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)

ANSWERS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),  # hash of the request identity, draw included
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # joint | centre | surrounding | imagine
        pa.field("draw", pa.int32(), nullable=False),  # 0 first; a retry is a new draw
        pa.field("text", pa.string()),  # raw, exactly as served
        pa.field("finish_reason", pa.string()),
        pa.field("error", pa.string()),  # a final error of the server for this row, such as its 400
        pa.field("prompt_tokens", pa.int32()),
        pa.field("completion_tokens", pa.int32()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("answered_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("server", pa.string()),  # name and version, as far as it says
    ]
)

_CAPTION_KEY = [
    pa.field("caption_id", pa.string(), nullable=False),
    pa.field("image_sha256", pa.string(), nullable=False),
    pa.field("view", pa.string(), nullable=False),
    pa.field("region", pa.string(), nullable=False),
    pa.field("view_json", pa.string(), nullable=False),
    pa.field("region_json", pa.string(), nullable=False),
    pa.field("spec_id", pa.string(), nullable=False),
]

CAPTIONS = pa.schema(
    [
        *_CAPTION_KEY,
        pa.field("centre", pa.string(), nullable=False),
        pa.field("surrounding", pa.string(), nullable=False),
        pa.field("total", pa.string(), nullable=False),
        pa.field("tokens_centre", pa.int32(), nullable=False),
        pa.field("tokens_surrounding", pa.int32(), nullable=False),
        pa.field("tokens_total", pa.int32(), nullable=False),
        pa.field("cut", pa.string(), nullable=False),  # the text that the target's token limit would cut from total
        pa.field("leak", pa.list_(pa.string()), nullable=False),  # words in both halves
        pa.field("request_ids", pa.list_(pa.string()), nullable=False),
        pa.field("draws", pa.list_(pa.int32()), nullable=False),
    ]
)

LATENTS = pa.schema(  # one row of tensors each, in this order
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("region", pa.string()),  # what is generated is grey; null = the whole picture
    ]
)

EMBEDDINGS = pa.schema([pa.field("text", pa.string(), nullable=False)])  # one row of tensors each, in this order

CAPTION_REJECTS = pa.schema(
    [
        *_CAPTION_KEY,
        pa.field("reason", pa.string(), nullable=False),  # a typed reason, see vip.captioning
        pa.field("detail", pa.string(), nullable=False),
        pa.field("request_ids", pa.list_(pa.string()), nullable=False),
        pa.field("draws", pa.list_(pa.int32()), nullable=False),
        pa.field("raw", pa.list_(pa.string()), nullable=False),
    ]
)

GATE_CHECKS = pa.schema(
    [
        pa.field("check", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("limit", pa.float64(), nullable=False),
        pa.field("passed", pa.bool_(), nullable=False),
        pa.field("worst", pa.list_(pa.string()), nullable=False),  # caption ids
    ]
)

GENERATED = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),  # of the original that was continued
        pa.field("view_json", pa.string(), nullable=False),
        pa.field("region_json", pa.string(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("caption_id", pa.string()),  # whose texts were used; null where the setting uses none
        pa.field("center_prompt", pa.string(), nullable=False),
        pa.field("surrounding_prompt", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),  # of this image's own generator
        pa.field("pasted", pa.string(), nullable=False),  # member of generated.tar with the known part pasted back
        pa.field("unpasted", pa.string(), nullable=False),  # as the model gave it
        pa.field("psnr_known_pasted", pa.float64(), nullable=False),  # dB, 100 = identical
        pa.field("psnr_known_unpasted", pa.float64(), nullable=False),
    ]
)

IMAGE_METRICS = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # null where the metric says nothing of this image
    ]
)

METRICS = pa.schema(
    [
        pa.field("metric_id", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),  # frechet_distance, kid, psnr_known_unpasted, ...
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),  # interval, where one is honest
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),  # oracle | centre_only | unconditional | control:...
        pa.field("checkpoint", pa.string(), nullable=False),  # digest
        pa.field("caption_set", pa.string(), nullable=False),  # digest of the pinned prompt set
        pa.field("view", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("network", pa.string()),  # the feature network, by name and digest
        pa.field("unit", pa.string(), nullable=False),  # dB, share, squared feature distance, ...
    ]
)

SUPPRESSED = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),  # of the original bytes
        pa.field("reason", pa.string(), nullable=False),
    ]
)

COMPARISON = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("first", pa.float64(), nullable=False),
        pa.field("second", pa.float64(), nullable=False),
        pa.field("gain", pa.float64(), nullable=False),  # second against first, above 0 = better
        pa.field("low", pa.float64()),  # interval of the gain, by pairs of images
        pa.field("high", pa.float64()),
        pa.field("margin", pa.float64()),
        pa.field("verdict", pa.string(), nullable=False),  # better | not worse | worse | cannot tell
        pa.field("n", pa.int64(), nullable=False),
        pa.field("first_metric_id", pa.string(), nullable=False),
        pa.field("second_metric_id", pa.string(), nullable=False),
    ]
)
