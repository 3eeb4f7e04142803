"""JCRNet: extract features, then correct colour, then illumination, in three stages.

Yu, Shi, Han: Joint Correcting and Refinement for Balanced Low-Light Image Enhancement, 2023, arXiv 2309.16128.

The paper gives the stages and Equations 1 to 7. Widths and depths that it leaves open follow the authors' public code
(woshiyll/JCRNet, built on DGUNet, Mou et al., CVPR 2022), from which we took facts but no code. Marks:

    [P] the paper, [C] the authors' code, [W] our choice.

The code departs from the paper in several places. In three we follow the paper: the spatial transform multiplies
(Eq. 5), the first stage's picture is divided by the estimate R (Eq. 6), and back projection works on 64 channels
(Sec. III-C). In these we follow the code:

- Each residual block of Eq. 1 is two convolutions with a skip connection, where Sec. III-A has one convolution and a
  PReLU, and their result is scaled by a learnt number r, which Eq. 1 has not.
- E sees the three colours together, while Sec. III-B processes each separately.
- Stage 3 takes x_J through such a projection again and fuses it with stage 1's features, and back projection works on
  the picture that this gives; Sec. III-C aggregates x_J itself with the dark picture.
- Lambda, a number in Eq. 7, is a 1x1 convolution and a PReLU.

The initial values [W] make an untrained network approximately return its input: every layer that ends in three
channels starts small, but not at zero, so that gradients reach all others at the first step.

1.98 M parameters (paper: 2.01 M) and 221.4 G multiply-adds at 384x384 (paper: 219.74 G).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from lowlight_cli.networks.gpu import eager, norm_half, residual
from lowlight_cli.networks.layers import ChannelAttention, Network, float32_at_least, pad, widened
from lowlight_cli.networks.statistics import measured, whole

__all__ = ["JCRNet"]

STRIDE: Final = 4  # two levels of halving
WIDTHS: Final = (40, 60, 80)  # [C] full, 1/2 and 1/4 of the size
WIDE: Final = (64, 64, 80)  # [W] the same for `wide`
CONDITION: Final = 32  # [C] channels of the condition for the spatial transforms
REFINED: Final = 64  # [C] channels that the spatial transforms work on
CORRECTED: Final = 128  # [P, Sec. III-B]
AGGREGATED: Final = 64  # [P, Sec. III-C]
CODED: Final = 32  # [P, Sec. III-C]
SMALL: Final = 0.03  # [W] factor on the initial weights of every layer that ends in a picture
RATIO_LEAST: Final = 0.02  # [W] no pixel is brightened more than fifty times
RATIO_START: Final = 0.9  # [W] brightens a little at first; the sigmoid is not yet saturated there
QUOTIENT: Final = (-1.0, 2.0)  # [W] wide enough for every picture, narrow enough for gradients


def conv(channels: int, out: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=bias)


def scale_start(layer: nn.Module, gain: float = SMALL, bias: float = 0.0) -> None:
    """Scale a convolution's initial weights by `gain` and set its biases, so that its output starts near `bias`."""
    with torch.no_grad():
        layer.get_parameter("weight").mul_(gain)
        if layer.bias is not None:
            layer.get_parameter("bias").fill_(bias)


class Residual(nn.Module):
    """res_1 or res_2 of Eq. 1, as in the code: a picture plus a correction [C]. (N, 3, H, W) to the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 64), nn.PReLU(), conv(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Correct (N, 3, H, W)."""
        y: Tensor = x + self.body(x)
        return y


class Projection(nn.Module):
    """Eq. 1, `x - res_2(res_1(x) - low)`, a step towards a picture that explains the dark one; res_2 times r [C].

    In the first stage x is the dark picture itself, as in the paper.
    """

    def __init__(self) -> None:
        super().__init__()
        self.degrade = Residual()
        self.restore = Residual()
        self.step = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        """Two (N, 3, H, W) to one."""
        y: Tensor = x - self.step * self.restore(self.degrade(x) - low)
        return y


class AttentionBlock(nn.Module):
    """Eq. 2 to 4: residual channel attention. (N, C, H, W) to the same shape; no biases [C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, bias=False),
            nn.PReLU(),
            conv(channels, channels, bias=False),
            ChannelAttention(channels, channels // 4, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine (N, C, H, W): add the convolved features, scaled by attention."""
        *convolutions, attention = self.body
        y = x
        for layer in convolutions:
            y = layer(y)
        added: Tensor = attention(y, x)
        return added


class HalfInstanceNorm(nn.Module):
    """Instance norm with affine on the first half of the channels [C, from HINet, Chen et al. 2021]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels // 2, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if eager(x) and len(x) == 1 and not measured():
            return norm_half(x, self.norm)
        first, second = x.chunk(2, 1)
        return torch.cat((self._recorded(first) if measured() else self.norm(first), second), 1)

    def _recorded(self, x: Tensor) -> Tensor:
        x = float32_at_least(x)
        mean = whole(lambda: x.mean((2, 3), keepdim=True))
        variance = whole(lambda: x.var((2, 3), correction=0, keepdim=True))
        scale = self.norm.weight[:, None, None] * torch.rsqrt(variance + self.norm.eps)
        return (x - mean) * scale + self.norm.bias[:, None, None]


class UnitBlock(nn.Module):
    """Two 3x3 convolutions in parallel with a 1x1 [C]. (N, C, H, W) to (N, out, H, W); only the encoder normalises."""

    def __init__(self, channels: int, out: int, *, normalised: bool) -> None:
        super().__init__()
        self.identity = conv(channels, out, 1)
        self.body = nn.Sequential(
            conv(channels, out),
            HalfInstanceNorm(out) if normalised else nn.Identity(),
            nn.LeakyReLU(0.2, inplace=True),
            conv(out, out),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H, W)."""
        y: Tensor = self.body(x) + self.identity(x)
        return y


class EncoderDecoder(nn.Module):
    """Three levels down and up again (Fig. 3). (N, 40, H, W) to the same shape; H and W multiples of 4."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        one, two, three = widths
        self.encode1 = UnitBlock(one, two, normalised=True)
        self.down1 = nn.Conv2d(two, two, 4, stride=2, padding=1, bias=False)
        self.encode2 = UnitBlock(two, three, normalised=True)
        self.down2 = nn.Conv2d(three, three, 4, stride=2, padding=1, bias=False)
        self.encode3 = UnitBlock(three, three, normalised=True)
        self.up2 = nn.ConvTranspose2d(three, two, 2, stride=2)
        self.skip2 = conv(three, two)
        self.decode2 = UnitBlock(2 * two, two, normalised=False)
        self.up1 = nn.ConvTranspose2d(two, one, 2, stride=2)
        self.skip1 = conv(two, one)
        self.decode1 = UnitBlock(2 * one, one, normalised=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 40, H, W) to the same shape."""
        first = self.encode1(x)
        second = self.encode2(self.down1(first))
        third = self.encode3(self.down2(second))
        up = self.decode2(torch.cat((self.up2(third), self.skip2(second)), 1))
        y: Tensor = self.decode1(torch.cat((self.up1(up), self.skip1(first)), 1))
        return y


class Extraction(nn.Module):
    """Stage 1 (Sec. III-A): the dark picture to a first picture x_A and features F_s, by Eq. 1 to 4."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        width = widths[0]
        self.project = Projection()
        self.shallow = nn.Sequential(conv(3, width, bias=False), AttentionBlock(width))
        self.deep = EncoderDecoder(widths)
        self.picture = conv(width, 3, 1, bias=False)  # the self-supervised block [P, from MPRNet], sizes [C]
        self.features = conv(width, width, 1, bias=False)

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to (N, 3, H, W), (N, 40, H, W)."""
        projected = self.project(low, low)
        deep = self.deep(self.shallow(projected))
        return self.picture(deep) + projected, self.features(deep) + deep


class SpatialTransform(nn.Module):
    """Eq. 5: `S_c * features + S_h`, with a scale and a shift for each pixel and channel.

    Both are computed from the condition, the scale by 3x3 and the shift by 1x1 convolutions [C]. The scale starts near
    1 [W].
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            conv(CONDITION, CONDITION), nn.LeakyReLU(0.1, inplace=True), conv(CONDITION, REFINED)
        )
        self.shift = nn.Sequential(
            conv(CONDITION, CONDITION, 1), nn.LeakyReLU(0.1, inplace=True), conv(CONDITION, REFINED, 1)
        )

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """(N, 64, H, W), (N, 32, H, W) to (N, 64, H, W)."""
        return torch.addcmul(self.shift(condition), features, self.scale(condition))


class NormalisedPair(nn.Module):
    """One of R's two residual blocks [P, Sec. III-B]. (N, 128, H, W) to the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolve_normalise(CORRECTED), conv(CORRECTED, CORRECTED, bias=False), nn.BatchNorm2d(CORRECTED)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine (N, 128, H, W)."""
        return residual(self.body, x)


def convolve_normalise(channels: int) -> list[nn.Module]:
    """Sec. III-B: "convolution + normalization + activation"; the norm provides the bias."""
    return [conv(channels, CORRECTED, bias=False), nn.BatchNorm2d(CORRECTED), nn.ReLU(inplace=True)]


class Refinement(nn.Module):
    """Stage 2 (Sec. III-B), Eq. 6: `x_J = x_A / R(S(x_A, E(x_A)))`.

    E is `detail` followed by `condition`, which gives the 32 channels that control S; S is `enter`, the two transforms
    and the convolution after each; R is `ratio` and a sigmoid. Sizes of E and S [C].
    """

    def __init__(self) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            *(conv(3, 32), nn.ReLU(inplace=True), conv(32, 32), nn.ReLU(inplace=True)),
            *(conv(32, 64), nn.ReLU(inplace=True), conv(64, 64), nn.ReLU(inplace=True)),
            *(conv(64, 1, 1), nn.ReLU(inplace=True)),
        )
        self.condition = nn.Sequential(
            *(conv(1, 64), nn.ReLU(inplace=True), conv(64, 64, 1), nn.ReLU(inplace=True)), conv(64, CONDITION, 1)
        )
        self.enter = conv(3, REFINED)
        self.transform1 = SpatialTransform()
        self.refine1 = nn.Sequential(conv(REFINED, REFINED), nn.ReLU(inplace=True))
        self.transform2 = SpatialTransform()
        self.refine2 = conv(REFINED, REFINED)
        self.ratio = nn.Sequential(
            *convolve_normalise(REFINED),
            NormalisedPair(),
            *convolve_normalise(CORRECTED),
            NormalisedPair(),
            conv(CORRECTED, 3, 1),
        )

    def forward(self, stage: Tensor) -> Tensor:
        """(N, 3, H, W) x_A to (N, 3, H, W) x_J within [-1, 2]."""
        condition = self.condition(self.detail(stage))
        entered = self.enter(stage)
        inner = self.refine1(self.transform1(entered, condition))
        refined = entered + self.refine2(self.transform2(inner, condition))
        # In the picture's precision: near 0.9, one step of bfloat16 is a whole grey level.
        ratio = torch.sigmoid(self.ratio(refined).to(stage.dtype))
        return (stage / ratio.clamp(min=RATIO_LEAST)).clamp(*QUOTIENT)


class Offset(nn.Module):
    """A lightening block L of Eq. 7, or with `sign` -1 the darkening block D. (N, 64, H, W) to the same shape.

    Encode 64 channels to 32, add or subtract an offset that PReLU keeps mostly positive, decode to 64 [P, Sec. III-C].
    """

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.sign = sign
        self.encode = nn.Sequential(conv(AGGREGATED, CODED), nn.PReLU())
        self.offset = nn.Sequential(conv(CODED, CODED), nn.PReLU())
        self.decode = nn.Sequential(conv(CODED, AGGREGATED), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Lighten or darken (N, 64, H, W)."""
        code = self.encode(x)
        y: Tensor = self.decode(torch.add(code, self.offset(code), alpha=self.sign))
        return y


class BackProjection(nn.Module):
    """Eq. 7 on the aggregated features: `R_F = L_2(lambda x_F - D(L_1(x_F)))`, as a correction of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = ChannelAttention(6, 2)  # [C]
        self.aggregate = nn.Sequential(conv(6, AGGREGATED, 1), nn.PReLU())
        self.weight = nn.Sequential(conv(AGGREGATED, AGGREGATED, 1), nn.PReLU())  # lambda [C]
        self.lighten = Offset(1)
        self.darken = Offset(-1)
        self.lighten_rest = Offset(1)
        self.correct = conv(AGGREGATED, 3)

    def forward(self, low: Tensor, picture: Tensor) -> Tensor:
        """Two (N, 3, H, W) to one correction."""
        both = torch.cat((low, picture), 1)
        x = self.aggregate(both + self.attention(both))
        y: Tensor = self.correct(self.lighten_rest(self.weight(x) - self.darken(self.lighten(x))))
        return y


class Adjustment(nn.Module):
    """Stage 3 (Sec. III-C): x_J, the dark picture and stage 1's features to the output; what precedes Eq. 7 is [C]."""

    def __init__(self, width: int = WIDTHS[0]) -> None:
        super().__init__()
        self.project = Projection()
        self.shallow = nn.Sequential(conv(3, width, bias=False), AttentionBlock(width))
        self.fuse = nn.Sequential(conv(2 * width, 56, bias=False), conv(56, 3, bias=False))
        self.back = BackProjection()

    def forward(self, low: Tensor, refined: Tensor, features: Tensor) -> Tensor:
        """(N, 3, H, W), (N, 3, H, W), (N, 40, H, W) to (N, 3, H, W), unclamped."""
        shallow = self.shallow(self.project(refined, low))
        picture = low + self.fuse(torch.cat((shallow, features), 1))
        y: Tensor = picture + self.back(low, picture)
        return y


class JCRNet(Network):
    """Joint Correcting and Refinement Network (Fig. 2): extraction, refinement, adjustment.

    (N, 3, H, W) RGB in [0, 1] to the same shape, unclamped. Means of attention and norms are of the whole picture.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.extraction = Extraction(widths)
        self.refinement = Refinement()
        self.adjustment = Adjustment(widths[0])
        self.start()

    def wide(self) -> JCRNet:
        """See `Network.wide`; the 60 channels have halves of their own, and attention a quarter of 40."""
        return widened(self, lambda: JCRNet(WIDE), {40: 64, 30: 32, 10: 16})

    def start(self) -> None:
        """Set initial values [W].

        Convolutions keep the variance. He's factor 2 for ReLU is left out: the skip connections make up for it, and
        with it stage 1's features grow tenfold. Then layers are scaled so that the network is nearly the identity.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        small = [self.extraction.picture, self.adjustment.fuse[-1], self.adjustment.back.correct]
        for project in (self.extraction.project, self.adjustment.project):
            small += [project.degrade.body[-1], project.restore.body[-1]]
        for layer in small:
            scale_start(layer)
        for transform in (self.refinement.transform1, self.refinement.transform2):
            scale_start(transform.scale[-1], bias=1.0)
            scale_start(transform.shift[-1])
        scale_start(self.refinement.ratio[-1], bias=math.log(RATIO_START / (1 - RATIO_START)))
        # Two ReLUs of one and two channels could start dead for every picture if the random values are unlucky.
        scale_start(self.refinement.detail[-2], gain=0.5, bias=0.5)
        with torch.no_grad():
            self.adjustment.back.attention.get_parameter("gate.0.weight").abs_()

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output`, and `stage`, the first stage's picture x_A, which the loss compares too; both shaped as `x`."""
        height, width = x.shape[-2:]
        low = pad(x, STRIDE)
        stage, features = self.extraction(low)
        output = self.adjustment(low, self.refinement(stage), features)
        return {"output": output[..., :height, :width], "stage": stage[..., :height, :width]}
