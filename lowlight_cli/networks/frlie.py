"""FRLIE: encode the dark picture, restore its features, decode them.

"Low-light image enhancement via feature restoration", Yang, Zhang, Guo, ICASSP 2022, pp. 2440-2444. The authors publish
PyTorch code and weights (YaN9-Y/FRLIE) without a licence: this is our own implementation of the paper, with their key
names, so that their `encoder`, `decoder` and `feature_processor` states load into the submodules of the same names with
`strict=True`. The paper gives the parts (Sec. 2); widths, kernels and strides are taken from those states. The paper
has pixel-shuffle blocks in the decoder (Sec. 2.1); the states have bilinear upscaling and convolutions, as we do.
"""

from __future__ import annotations

import contextlib
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.gpu import Reflect, double, eager, halves
from lowlight_cli.networks.layers import Network, float32_at_least, full_precision, pad

__all__ = ["FRLIE", "RADIUS", "Decoder", "Encoder", "FeatureRestoration"]

WIDTH: Final = 32
"""Channels at full resolution; twice as many at 1/2, four times as many at 1/4."""

BLOCKS: Final = 4
"""Feature restoration blocks (Sec. 2.2)."""

DILATIONS: Final = (1, 2, 3, 4)

# Radius of each part. Encoder, in pixels around 4j for feature j: conv5; conv3 stride 2; at 1/2, conv3, conv3 stride 2.
_ENCODER = 2 + 1 + 2 + 2
# In features, for each block: a context block, then two residual blocks of two conv3.
_FEATURES = BLOCKS * (DILATIONS[-1] + 2 * 2)
# In pixels: two conv3; at 1/2, the farther tap of an upscaling and two conv3; at 1/4, the farther tap of an upscaling.
_DECODER = 2 + 2 * (1 + 2) + 4 * 1

RADIUS: Final = _DECODER + 4 * _FEATURES + _ENCODER
"""Largest distance along an axis at which an input pixel can change an output pixel: 12 + 128 + 7."""


class Encoder(nn.Sequential):
    """(N, 3, H, W) to non-negative features (N, 4 * WIDTH, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(Reflect(2), nn.Conv2d(3, WIDTH, 5))
        self.conv2 = _normalised(WIDTH, 2 * WIDTH, stride=2)
        self.conv3 = _normalised(2 * WIDTH, 2 * WIDTH)
        self.conv4 = _normalised(2 * WIDTH, 4 * WIDTH, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Encode; on a GPU, the first layer is faster in float16 than in bfloat16."""
        with torch.autocast("cuda", torch.float16) if halves(x) else contextlib.nullcontext():
            first = self.conv1(x)
        features: Tensor = self.conv4(self.conv3(self.conv2(first)))
        return features


class Decoder(nn.Module):
    """Features (N, 4 * WIDTH, H / 4, W / 4) to a picture (N, 3, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.up1 = nn.Sequential(_Double(), *_normalised(4 * WIDTH, 2 * WIDTH))
        self.conv1 = _normalised(2 * WIDTH, 2 * WIDTH)
        self.up2 = nn.Sequential(_Double(), *_normalised(2 * WIDTH, WIDTH))
        self.conv2 = nn.Sequential(Reflect(1), nn.Conv2d(WIDTH, 3, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Decode with ten bits of mantissa at least: with the authors' weights, bfloat16 is 3 grey levels off here."""
        half = halves(features)
        with torch.autocast("cuda", torch.float16) if half else full_precision(features):
            given = features.half() if half else float32_at_least(features)
            picture: Tensor = self.conv2(self.up2(self.conv1(self.up1(given))))
            return (torch.tanh(float32_at_least(picture)) + 1) / 2


class FeatureRestoration(nn.Module):
    """FRNet, Sec. 2.2: dark features to bright and clean ones of the same shape, (N, 4 * WIDTH, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        width = 4 * WIDTH
        self.main_blocks = nn.ModuleList(
            nn.Sequential(_Context(width), _Residual(width), _Residual(width)) for _ in range(BLOCKS)
        )
        # Twelve residuals add up, and the decoder's batch norm hides how large they grow, so they start small.
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("fusion.weight", "res.2.weight")):
                    parameter.mul_(0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Restore the features; the blocks predict what is missing."""
        if features.dtype is torch.bfloat16:
            features = features.float()  # sums are kept in float32; the blocks' convolutions stay bfloat16
        restored = features
        for block in self.main_blocks:
            restored = block(restored)
        return features + restored


class FRLIE(Network):
    """The whole network: `decoder(feature_processor(encoder(x)))`.

    Trained in two stages: `reconstruct` on bright pictures, then feature restoration with encoder and decoder frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.feature_processor = FeatureRestoration()
        self.decoder = Decoder()
        for module in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Conv2d) and module is not self.decoder.conv2[1]:  # that one starts near mid-grey
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output` (N, 3, H, W), and `features`, the restored features of x padded to a multiple of 4."""
        features = self.feature_processor(self.encoder(pad(x, 4)))
        return {"output": self._decode(features, x), "features": features}

    def reconstruct(self, x: Tensor) -> Tensor:
        """D(E(x)), Eq. 1: (N, 3, H, W) reconstructed by encoder and decoder alone."""
        return self._decode(self.encoder(pad(x, 4)), x)

    def _decode(self, features: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        picture: Tensor = self.decoder(features)
        return picture[..., :height, :width]


class _Double(nn.Module):
    """Bilinear upscaling by 2.

    The authors align corners, which shifts features by up to half a pixel depending on their place in the picture, so
    that tiles would differ from the whole picture. With half-pixel centres [W] their weights reconstruct as well: 32.75
    against 32.68 dB on thirty photographs, from 0.24 dB worse to 0.46 dB better.
    """

    def forward(self, x: Tensor) -> Tensor:
        if eager(x) and halves(x):
            return double(x)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Context(nn.Module):
    """Context block: four dilated convolutions in parallel and their fusion, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 4
        self.conv0 = nn.Conv2d(width, narrow, 1)
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(narrow, narrow, 3, padding=d, dilation=d) for d in DILATIONS
        )
        self.fusion = nn.Conv2d(4 * narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv0(x)
        wide = torch.cat([conv(narrow) for conv in (self.conv1, self.conv2, self.conv3, self.conv4)], 1)
        fused: Tensor = self.fusion(F.leaky_relu(wide, 0.2, inplace=True))
        return fused + x


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.res(x)
        return x + change


def _normalised(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    """Reflection padding, 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(Reflect(1), nn.Conv2d(before, after, 3, stride), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
