"""Heads on real encoders: their shapes, what they read, and that they learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cmcd_segmentation import SegmentationOptions, build
from cmcd_segmentation.heads import Decoder, LinearMaps
from torch import Tensor

from cmcd_core import ConfigError, Encoder, Features, TimmEncoder

NAMES = ("a", "b", "c")
ENCODERS = {
    "slim": (None, {}, [16, 8, 4, 2]),
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0", {}, [16, 8, 4, 2]),
    "vit": ("vit_tiny_patch16_224", {"img_size": 64}, [4, 4, 4, 4]),
}


@pytest.fixture(scope="module", params=ENCODERS)
def made(request: pytest.FixtureRequest) -> tuple[TimmEncoder, Features, list[int]]:
    """An encoder, what it says of two pictures of 64 px, and the sides of its maps."""
    architecture, arguments, sides = ENCODERS[request.param]
    torch.manual_seed(0)
    encoder = TimmEncoder(architecture, in_chans=1, **arguments).eval()
    with torch.no_grad():
        return encoder, encoder(torch.rand(2, 1, 64, 64)), sides


def maps(features: Features) -> list[Tensor]:
    assert features.dense is not None
    return [*(features.pyramid or ()), features.dense]


def test_encoders_say_what_their_maps_are(made: tuple[TimmEncoder, Features, list[int]]) -> None:
    encoder, features, sides = made
    assert [part.shape[-1] for part in maps(features)] == sides
    assert [part.shape[1] for part in maps(features)] == [*encoder.pyramid_dims, encoder.dense_dim]


@pytest.mark.parametrize("levels", ["pyramid", "dense"])
def test_linear_heads(made: tuple[TimmEncoder, Features, list[int]], levels: str) -> None:
    encoder, features, sides = made
    head = build(SegmentationOptions(levels=levels)).head(encoder, NAMES)
    output = head(features)
    assert output.shape[:2] == (2, 3)
    assert output.shape[-1] == (sides[0] if levels == "pyramid" else sides[-1])
    assert len(head.layers) == (len(sides) if levels == "pyramid" else 1)


def test_the_linear_head_is_a_sum_of_linear_maps(made: tuple[TimmEncoder, Features, list[int]]) -> None:
    encoder, features, sides = made
    head = build(SegmentationOptions()).head(encoder, NAMES)
    expected = torch.zeros(2, 3, sides[0], sides[0])
    for layer, part in zip(head.layers, maps(features), strict=True):
        logits = torch.einsum("kc,nchw->nkhw", layer.weight[:, :, 0, 0], part)
        expected = expected + F.interpolate(logits, size=sides[0], mode="bilinear", align_corners=False)
    expected = expected + head.layers[-1].bias.view(1, -1, 1, 1)
    torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-4)
    assert sum(layer.bias is not None for layer in head.layers) == 1  # several would say the same


def test_the_decoder(made: tuple[TimmEncoder, Features, list[int]]) -> None:
    encoder, features, sides = made
    head = build(SegmentationOptions(width=24)).finetune_head(encoder, NAMES)
    assert isinstance(head, Decoder)
    output = head(features)
    assert output.shape == (2, 3, sides[0], sides[0])
    output.square().mean().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("bias") or parameter.grad.abs().sum() > 0, name


def test_every_stage_reaches_the_decoder(made: tuple[TimmEncoder, Features, list[int]]) -> None:
    encoder, features, _ = made
    head = build(SegmentationOptions(width=16)).finetune_head(encoder, NAMES).eval()
    parts = [part.clone().requires_grad_() for part in maps(features)]
    head(Features(pooled=features.pooled, pyramid=tuple(parts[:-1]), dense=parts[-1])).square().sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)


def test_maps_may_be_oblong() -> None:
    features = Features(pooled=torch.zeros(2, 4), pyramid=(torch.rand(2, 3, 6, 8),), dense=torch.rand(2, 4, 3, 4))
    assert LinearMaps((3, 4), 5)(features).shape == (2, 5, 6, 8)
    assert Decoder((3, 4), 5, 8)(features).shape == (2, 5, 6, 8)


def test_output_stride_makes_the_last_map_finer() -> None:
    encoder = TimmEncoder(None, in_chans=1, output_stride=8).eval()
    head = build(SegmentationOptions(levels="dense")).head(encoder, NAMES)
    with torch.no_grad():
        assert head(encoder(torch.rand(1, 1, 64, 64))).shape == (1, 3, 8, 8)


def test_an_encoder_without_maps_is_refused() -> None:
    class Pooled(Encoder):
        dim, channels = 4, 1

    task = build(SegmentationOptions())
    for make in (task.head, task.finetune_head):
        with pytest.raises(ConfigError, match="pooled features only"):
            make(Pooled(), NAMES)


def scenes(count: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 32, 32) noisy pictures of a bright box and a dark one, and their masks."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(count, 32, 32, dtype=torch.uint8)
    for number in range(count):
        for kind in (1, 2):
            top, left = torch.randint(0, 20, (2,), generator=generator).tolist()
            mask[number, top : top + 11, left : left + 11] = kind
    shade = torch.tensor([0.5, 0.9, 0.1])[mask.long()]
    return (shade + 0.03 * torch.randn(shade.shape, generator=generator))[:, None], mask


def test_encoder_and_decoder_learn_masks() -> None:
    torch.manual_seed(0)
    task = build(SegmentationOptions(width=16))
    encoder = TimmEncoder(None, in_chans=1)
    head = task.finetune_head(encoder, NAMES)
    x, mask = scenes(16)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    losses = []
    for _ in range(25):
        loss = task.loss(head(encoder(x)), mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
