"""Demo: a drawn folder of images, and a config that trains on it within minutes on two cores."""

from schemas.evaluate_config import EvaluateConfig
from schemas.gate import GateThresholds
from schemas.retrain_config import CaptionConfig, RetrainConfig
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig

NANO_GATE = GateThresholds(leak_share=1.0)
"""In the drawn world colours and kinds stand in both regions on purpose (a red house before red flowers), so that half
of a two-word centre is often in the surrounding too; only a centre that is restated whole counts as a leak."""


OPEN_GATE = GateThresholds(
    rejected=0.9, refused=1.0, cut=1.0, short=1.0, repeated=1.0, duplicated=1.0, leaking=1.0, leak_share=1.0
)
"""For photographs: what nano says of them is meaningless, so its checks are recorded and stop nothing."""


def demo_config(
    source: str, name: str, steps: int, *, drawn: bool = True, endpoints: tuple[str, ...] = ()
) -> RetrainConfig:
    """The config of the demo: nano models, 64 pixels, the central half kept."""
    return RetrainConfig(
        source=source,
        shard=ShardSettings(name=name, samples_per_shard=64, test_share=0.2),
        caption=CaptionConfig(gate=NANO_GATE if drawn else OPEN_GATE, endpoints=endpoints),
        train=TrainConfig(steps=steps, warmup=min(10, steps // 2)),
        evaluate=EvaluateConfig(settings=("oracle", "centre_only", "unconditional", "control:swapped"), images=48),
    )
