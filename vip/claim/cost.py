"""Cost: what each arm asks for beyond the base, counted without weights."""

from pathlib import Path
from typing import NamedTuple

from schemas.claim_config import ClaimConfig
from vip.claim.arms import train_config
from vip.diffusion.plan import plan


class Cost(NamedTuple):
    """One arm's price.

    Attributes:
        flops: of one forward pass of the UNet and its branches, one sample whose central half is kept.
        parameters: of the branches and the fusion weights, beyond the UNet's.
        share: ``flops`` against the plain UNet's.
    """

    flops: int
    parameters: int
    share: float


def costs_of(config: ClaimConfig, base_folder: Path) -> dict[str, Cost]:
    """Arm -> its cost at the view of the exam.

    The plain arms count as what they compute in use, the UNet alone; that they are kept with silent branches is how
    they are trained here, not what they would cost.
    """
    view, _ = config.evaluate.geometry
    plain = plan(config.train.model_copy(update={"view": view}), str(base_folder), plain=True).forward_flops
    found: dict[str, Cost] = {}
    for arm in config.arms:
        if arm in ("base", "plain"):
            found[arm] = Cost(plain, 0, 1.0)
            continue
        wanted = config.train if arm == "masked" else train_config(config, arm, 0)
        changes = {"view": view} | ({"branches": "key_value"} if arm == "masked" else {})
        made = plan(wanted.model_copy(update=changes), str(base_folder))
        # Masked attention reads through copies of the base's own keys and values, which need no storage of their own.
        extra = 0 if arm == "masked" else made.branch_parameters
        found[arm] = Cost(made.forward_flops, extra, made.forward_flops / plain)
    return found
