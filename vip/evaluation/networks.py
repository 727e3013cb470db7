"""Networks: the feature networks that an exam can name."""

import functools
from pathlib import Path

from schemas.errors import VipError
from vip.evaluation.efficientnet import EfficientNetLite0
from vip.evaluation.inception import InceptionV3
from vip.evaluation.network import FeatureNetwork


@functools.cache
def load_network(name: str, weights: str | None = None) -> FeatureNetwork:
    """The network of that name, ready on the CPU.

    Args:
        name: ``efficientnet-lite0``, whose weights a package carries, or ``inception-v3``.
        weights: a ``.safetensors`` file; ``inception-v3`` needs it.

    Raises:
        VipError: for a name that is not known, or weights that are not those that the name stands for.
    """
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name != "inception-v3":
        raise VipError(f"feature network '{name}' is unknown", f"choose {EfficientNetLite0.name} or inception-v3")
    if weights is None:
        raise VipError("inception-v3 comes without weights", "name a .safetensors file as network_weights")
    return InceptionV3(Path(weights).expanduser())
