"""Demo: a drawn folder of images, and a config that trains on it within minutes on two cores."""

from schemas.evaluate_config import EvaluateConfig
from schemas.retrain_config import RetrainConfig
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig


def demo_config(source: str, name: str, steps: int) -> RetrainConfig:
    """The config of the demo: nano models, 64 pixels, the central half kept."""
    return RetrainConfig(
        source=source,
        shard=ShardSettings(name=name, samples_per_shard=64, test_share=0.2),
        train=TrainConfig(steps=steps, warmup=min(10, steps // 2)),
        evaluate=EvaluateConfig(settings=("oracle", "centre_only", "unconditional", "control:swapped"), images=64),
    )
