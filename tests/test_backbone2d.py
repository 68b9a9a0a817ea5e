"""Layers, backbones and neck of the 2D path."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mssc.model.backbone2d import BACKBONES2D, CSPDarknet, build_backbone2d
from mssc.model.layers import (
    BN_EPS,
    Bottleneck,
    ConvBlock,
    CSPLayer,
    DecoupledTower,
    DepthwiseConvBlock,
    Focus,
    SpatialPyramidPooling,
)
from mssc.model.neck import PAFPN
from mssc.structures import InputError

SIZES = [
    (64, 64),
    (96, 64),  # no square
    (75, 101),  # odd at the input and at every level
    (33, 63),  # one more and one less than a multiple of 32
    (1, 1),  # a single pixel
]
NAMES = ["cspdarknet_nano", "timm/mobilenetv3_small_050", "timm/resnet18"]


def _ceil(size: int, stride: int) -> int:
    return -(-size // stride)


def _shapes(maps) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in maps]


# ---------------------------------------------------------------------------------------------------------------- layers


def test_focus_takes_patches_in_the_published_order():
    focus = Focus(1, 4)
    focus.conv = nn.Identity()
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert focus(image).flatten().tolist() == [1, 3, 2, 4]  # top left, bottom left, top right, bottom right
    two = torch.cat((image, 10 * image), dim=1)
    assert focus(two).flatten().tolist() == [1, 10, 3, 30, 2, 20, 4, 40]  # the colours of a cell stay together


def test_focus_repeats_an_odd_edge():
    focus = Focus(1, 4)
    focus.conv = nn.Identity()
    assert focus(torch.tensor([[[[1.0], [3.0], [5.0]]]])).flatten(2).tolist() == [[[1, 5], [3, 5], [1, 5], [3, 5]]]


def test_pyramid_pooling_is_the_maximum_over_5_9_and_13_cells():
    pyramid = SpatialPyramidPooling(8, 16)
    seen = []
    pyramid.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pyramid.eval()(torch.randn(2, 8, 11, 17))
    x, *pooled = seen[0].chunk(4, dim=1)
    for window, got in zip((5, 9, 13), pooled, strict=True):
        assert torch.equal(got, F.max_pool2d(x, window, 1, window // 2)), window


def test_csp_layer_runs_its_convolutions_in_the_published_order():
    layer, order = CSPLayer(8, 12, 2), []
    for name, module in layer.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: order.append(name.removesuffix(".conv")))
    layer(torch.randn(2, 8, 5, 5))
    block = ["conv1", "conv2.depthwise", "conv2.pointwise"]
    assert order == ["conv1", "conv2", *(f"blocks.{i}.{name}" for i in range(2) for name in block), "conv3"]


def test_bottleneck_adds_its_input_only_with_a_shortcut():
    block, x = Bottleneck(4).eval(), torch.randn(1, 4, 5, 5)
    with_shortcut = block(x)
    block.shortcut = False
    assert torch.allclose(with_shortcut - block(x), x, atol=1e-6)


def test_conv_block_is_convolution_norm_silu():
    block = ConvBlock(3, 2, 3, stride=2).eval()
    x = torch.randn(1, 3, 7, 7)
    y = F.conv2d(x, block.conv.weight, stride=2, padding=1) / (1 + BN_EPS) ** 0.5
    assert torch.allclose(block(x), y * y.sigmoid(), atol=1e-6)
    assert block.conv.bias is None and block.bn.momentum == 0.03


def test_depthwise_block_is_two_convolutions():
    block = DepthwiseConvBlock(4, 6, stride=2)
    assert [conv.groups for conv in block.modules() if isinstance(conv, nn.Conv2d)] == [4, 1]
    assert block(torch.randn(2, 4, 5, 5)).shape == (2, 6, 3, 3)


def test_tower_gives_class_and_box_maps_of_one_width():
    tower = DecoupledTower((8, 16), width=12)
    maps = [torch.randn(2, 8, 5, 7), torch.randn(2, 16, 3, 4)]
    assert [_shapes(pair) for pair in tower(maps)] == [[(2, 12, 5, 7)] * 2, [(2, 12, 3, 4)] * 2]
    with pytest.raises(ValueError):  # a level without a stem is not dropped in silence
        tower([*maps, maps[0]])


# ------------------------------------------------------------------------------------------------------------- backbones


@pytest.mark.parametrize("name", NAMES)
def test_backbones_return_what_they_declare(name):
    backbone = build_backbone2d(name).eval()
    assert len(backbone.mean) == len(backbone.std) == 3
    for height, width in SIZES:
        with torch.no_grad():
            maps = backbone(torch.rand(2, 3, height, width))
        declared = zip(backbone.dims, (8, 16, 32), strict=True)
        assert _shapes(maps) == [(2, dim, _ceil(height, s), _ceil(width, s)) for dim, s in declared], (height, width)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter_of_backbone_neck_and_tower(name):
    backbone = build_backbone2d(name)
    neck = PAFPN(backbone.dims)
    model = nn.ModuleList([backbone, neck, DecoupledTower(neck.dims)])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm starts the last one of a residual block at 0: no gradient yet
    images = torch.rand(2, 3, 64, 64)
    sum(y.square().mean() for pair in model[2](model[1](model[0](images))) for y in pair).backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert unreached == []


def test_cspdarknet_nano_is_of_the_published_size():
    backbone = CSPDarknet()
    neck = PAFPN(backbone.dims)
    parts = [backbone, neck, DecoupledTower(neck.dims)]
    # YOLOX-nano has 0.91 M parameters; its 1x1 predictions, 3 * 85 * 65, are missing here.
    assert sum(p.numel() for part in parts for p in part.parameters()) + 3 * 85 * 65 == pytest.approx(0.91e6, rel=0.01)
    assert backbone.dims == neck.dims == (64, 128, 256)
    assert (backbone.mean, backbone.std) == ((0, 0, 0), (1, 1, 1))


def test_cspdarknet_takes_frames_with_their_differences():
    backbone = CSPDarknet(in_channels=6).eval()
    assert _shapes(backbone(torch.rand(1, 6, 40, 40))) == [(1, 64, 5, 5), (1, 128, 3, 3), (1, 256, 2, 2)]


def test_a_batch_is_its_images_one_by_one_and_inputs_are_kept():
    backbone = CSPDarknet().eval()
    neck, images = PAFPN(backbone.dims).eval(), 255 * torch.rand(2, 3, 75, 53)
    before = images.clone()
    with torch.no_grad():
        both = neck(backbone(images))
        singles = [neck(backbone(image[None])) for image in images]
        maps = backbone(images)
        kept = [x.clone() for x in maps]
        neck(maps)
    for level, x in enumerate(both):
        assert torch.allclose(x, torch.cat([single[level] for single in singles]), atol=1e-4)
    assert torch.equal(images, before) and all(map(torch.equal, maps, kept))


def test_timm_declares_the_normalisation_of_its_weights():
    backbone = build_backbone2d("timm/resnet18")
    assert backbone.mean == pytest.approx((123.675, 116.28, 103.53))  # ImageNet's, in grey levels
    assert backbone.std == pytest.approx((58.395, 57.12, 57.375))


def test_timm_networks_with_channels_last_are_turned_round():
    backbone = build_backbone2d("timm/swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        assert _shapes(backbone(torch.rand(1, 3, 224, 224))) == [(1, 192, 28, 28), (1, 384, 14, 14), (1, 768, 7, 7)]


def test_timm_and_torchvision_are_imported_only_when_asked_for():
    """They take seconds."""
    code = "import sys; from mssc import Detector; Detector.load('toy', 'cpu', 'torch'); "
    code += "sys.exit(bool({'timm', 'torchvision'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cspdarknet", "cspdarknet_nano"),  # says what there is
        ("resnet18", "timm/<name>"),  # the prefix was forgotten
        ("timm/resnet19", "did you mean resnet1"),
        ("timm/", "no network named ''"),
        ("timm/vit_tiny_patch16_224", "not at [8, 32]"),  # stride 16 only
        ("timm/resnet18.no_such_tag", "no_such_tag"),
    ],
)
def test_unusable_names_are_refused_with_the_way_out(name, words):
    with pytest.raises(InputError) as error:
        build_backbone2d(name)
    assert words in str(error.value)


def test_every_listed_backbone_builds():
    for name in BACKBONES2D:
        assert isinstance(build_backbone2d(name), nn.Module)


# ------------------------------------------------------------------------------------------------------------------ neck


@pytest.mark.parametrize("dims", [(64, 128, 256), (7, 24, 512)])
def test_neck_keeps_sizes_and_gives_the_nano_widths(dims):
    neck = PAFPN(dims).eval()
    for height, width in SIZES:
        sizes = [(_ceil(height, s), _ceil(width, s)) for s in (8, 16, 32)]
        with torch.no_grad():
            maps = neck([torch.randn(2, dim, *size) for dim, size in zip(dims, sizes, strict=True)])
        assert _shapes(maps) == [(2, dim, *size) for dim, size in zip((64, 128, 256), sizes, strict=True)]


def test_neck_takes_sizes_that_were_rounded_down():
    # ConvNeXt and VGG round down: 9 -> 4 -> 2 cells, where a stride of 2 with padding gives 5 and 2.
    sizes = [(9, 13), (4, 6), (2, 3)]
    maps = PAFPN((8, 8, 8)).eval()([torch.randn(1, 8, *size) for size in sizes])
    assert [tuple(x.shape[-2:]) for x in maps] == sizes


def test_every_level_sees_every_level():
    neck = PAFPN((8, 8, 8)).eval()
    maps = [torch.randn(1, 8, size, size, requires_grad=True) for size in (8, 4, 2)]
    for y in neck(maps):
        for x, grad in zip(maps, torch.autograd.grad(y.square().sum(), maps, retain_graph=True), strict=True):
            assert grad.abs().sum() > 0, (y.shape, x.shape)
