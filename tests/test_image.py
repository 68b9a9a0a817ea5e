"""The image path by itself: what goes in, what comes out, and the null module of a network without it."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from random_weights import randomise

from mssc.model.backbone2d import CSPDarknet
from mssc.model.image import ImagePath, NoImage, build_image_path


def _images(batch=2, size=64):
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("size", [64, 96])
def test_it_is_backbone_neck_and_stems(size):
    path = build_image_path(TINY)
    path = randomise(path, lambda: path(_images(4, size)))
    images = _images(2, size)
    kept = images.clone()
    with torch.no_grad():
        levels, maps = path(images)
        wanted = path.neck(path.backbone(images.float()))  # YOLOX takes 0..255
        stems = [stem(x) for stem, x in zip(path.stems, wanted, strict=True)]
        alone = path(images[1:])
    assert [tuple(x.shape) for x in levels] == [(2, c, size // s, size // s) for c, s in zip(path.dims, (8, 16, 32), strict=True)]
    assert [tuple(x.shape) for x in maps] == [(2, TINY.width, size // s, size // s) for s in (8, 16, 32)]
    for found, expected in zip((*levels, *maps), (*wanted, *stems), strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max()) and found.abs().max() > 0.1
    for whole, one in zip((*levels, *maps), (*alone.levels, *alone.maps), strict=True):
        assert torch.allclose(whole[1:], one, rtol=1e-3, atol=1e-3 * one.abs().max())  # every image by itself
    assert torch.equal(images, kept)


def test_gradient_reaches_every_parameter():
    path = build_image_path(TINY)
    randomise(path, lambda: path(_images(4)))
    sum(x.square().sum() for x in path(_images()).maps).backward()
    assert [n for n, p in path.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_normalisation_is_the_backbones():
    path, seen = build_image_path(replace(TINY, backbone2d="timm/mobilenetv3_small_050")).eval(), []
    path.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = _images(1)
    path(images)
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (path.backbone.mean, path.backbone.std))
    assert torch.allclose(seen[0][0], (images[0] - mean) / std, atol=1e-5) and mean.min() > 1
    assert {"mean", "std"} <= set(path.state_dict())  # they travel with the weights


def test_any_backbone_and_width_fit():
    path = ImagePath(CSPDarknet(), 24).eval()
    with torch.no_grad():
        assert [x.shape[1] for x in path(_images(1)).maps] == [24] * 3


def test_without_it_its_maps_are_zeros():
    path = build_image_path(replace(TINY, paths="clip"))
    assert isinstance(path, NoImage) and path.dims == () and not list(path.parameters()) and not path.state_dict()
    for dtype in (torch.float32, torch.float64):
        levels, maps = path.to(dtype)(_images(3, 96))
        assert levels == () and [tuple(x.shape) for x in maps] == [(3, TINY.width, 96 // s, 96 // s) for s in (8, 16, 32)]
        assert not any(x.any() for x in maps) and all(x.dtype == dtype for x in maps)
