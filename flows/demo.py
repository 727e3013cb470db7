"""Demo: a drawn folder of images, and a config that trains on it within minutes on two cores."""

from schemas.evaluate_config import EvaluateConfig
from schemas.gate import GateThresholds
from schemas.retrain_config import CaptionConfig, RetrainConfig
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig

NANO_GATE = GateThresholds(leak_share=1.0)
"""In the drawn world colours and kinds stand in both regions on purpose (a red house before red flowers), so that half
of a two-word centre is often in the surrounding too; only a centre that is restated whole counts as a leak."""


def demo_config(source: str, name: str, steps: int) -> RetrainConfig:
    """The config of the demo: nano models, 64 pixels, the central half kept."""
    return RetrainConfig(
        source=source,
        shard=ShardSettings(name=name, samples_per_shard=64, test_share=0.2),
        caption=CaptionConfig(gate=NANO_GATE),
        train=TrainConfig(steps=steps, warmup=min(10, steps // 2)),
        evaluate=EvaluateConfig(settings=("oracle", "centre_only", "unconditional", "control:swapped"), images=48),
    )
