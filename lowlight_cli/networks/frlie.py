"""FRLIE: encode the dark picture, restore its features, decode them.

"Low-light image enhancement via feature restoration", Yang, Zhang, Guo, ICASSP 2022,
pp. 2440-2444. The authors publish PyTorch code and weights (YaN9-Y/FRLIE) without a
licence: this is our own writing after the paper, with their key names, so that their `encoder`, `decoder` and
`feature_processor` states load into the submodules of the same names with `strict=True`. The paper gives the parts
(Sec. 2); widths, kernels and strides are read off those states. Where the paper has pixel-shuffle blocks in the decoder
(Sec. 2.1), the states have bilinear doubling and convolutions, and so have we.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.layers import Network, float32_at_least, full_precision, pad

__all__ = ["FRLIE", "RADIUS", "Decoder", "Encoder", "FeatureRestoration"]

WIDTH: Final = 32
"""Channels at full resolution; twice at a half, four times at a quarter."""

BLOCKS: Final = 4
"""Feature restoration blocks (Sec. 2.2)."""

DILATIONS: Final = (1, 2, 3, 4)

_ENCODER = 2 + 1 + 2 + 2  # conv5; conv3 stride 2; conv3 and conv3 stride 2 at half size: pixels around 4j for feature j
_FEATURES = BLOCKS * (DILATIONS[-1] + 2 * 2)  # a context block, two blocks of two conv3: features
_DECODER = (
    2 + 2 * (1 + 2) + 4 * 1
)  # two conv3; at half size a doubling's farther tap and two conv3; the same at a quarter

RADIUS: Final = _DECODER + 4 * _FEATURES + _ENCODER
"""No pixel farther away than this along an axis changes an output pixel: 12 + 128 + 7. One at this distance may."""


class Encoder(nn.Sequential):
    """(N, 3, H, W) to features (N, 4 * WIDTH, H / 4, W / 4), not negative."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, WIDTH, 5))
        self.conv2 = _normalised(WIDTH, 2 * WIDTH, stride=2)
        self.conv3 = _normalised(2 * WIDTH, 2 * WIDTH)
        self.conv4 = _normalised(2 * WIDTH, 4 * WIDTH, stride=2)


class Decoder(nn.Module):
    """Features (N, 4 * WIDTH, H / 4, W / 4) to a picture (N, 3, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.up1 = nn.Sequential(_Double(), *_normalised(4 * WIDTH, 2 * WIDTH))
        self.conv1 = _normalised(2 * WIDTH, 2 * WIDTH)
        self.up2 = nn.Sequential(_Double(), *_normalised(2 * WIDTH, WIDTH))
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(WIDTH, 3, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Decode, in float32 even under autocast: with the authors' weights bfloat16 is 3 grey levels off here."""
        with full_precision(features):
            picture: Tensor = self.conv2(self.up2(self.conv1(self.up1(float32_at_least(features)))))
            return (torch.tanh(picture) + 1) / 2


class FeatureRestoration(nn.Module):
    """FRNet, Sec. 2.2: dark features to bright and clean ones of the same shape, (N, 4 * WIDTH, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        width = 4 * WIDTH
        self.main_blocks = nn.ModuleList(
            nn.Sequential(_Context(width), _Residual(width), _Residual(width)) for _ in range(BLOCKS)
        )
        # Twelve changes add up, and the decoder's batch norm hides how large they grow: they start small.
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("fusion.weight", "res.2.weight")):
                    parameter.mul_(0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Restore: the blocks predict what is missing."""
        if features.dtype is torch.bfloat16:
            features = features.float()  # what the blocks add up keeps its digits; their convolutions stay bfloat16
        restored = features
        for block in self.main_blocks:
            restored = block(restored)
        return features + restored


class FRLIE(Network):
    """The whole: `decoder(feature_processor(encoder(x)))`.

    Trained in two stages: `reconstruct` on bright pictures, then the features with encoder and decoder frozen.
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
        """`output` (N, 3, H, W) and `features`, the restored ones, of x padded to a multiple of 4."""
        features = self.feature_processor(self.encoder(pad(x, 4)))
        return {"output": self._decode(features, x), "features": features}

    def reconstruct(self, x: Tensor) -> Tensor:
        """D(E(x)), Eq. 1: (N, 3, H, W) as the reconstructor alone gives it back."""
        return self._decode(self.encoder(pad(x, 4)), x)

    def _decode(self, features: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        picture: Tensor = self.decoder(features)
        return picture[..., :height, :width]


class _Double(nn.Module):
    """Bilinear, twice the size.

    The authors align corners, which shifts features by up to half of one with their place in the picture: a tile would
    not be what the whole picture is there. Between pixel centres [W] their weights reconstruct as well: 32.75 against
    32.68 dB on thirty photographs, between 0.24 worse and 0.46 better.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Context(nn.Module):
    """Four dilations side by side and their fusion, added to the input."""

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
    """Reflect, 3x3, batch norm, ReLU."""
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3, stride), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
