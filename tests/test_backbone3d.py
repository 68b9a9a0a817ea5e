"""The 3D path: causal, streamed, inflated from the 2D one, and torchvision's networks in the same slot."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
import torchvision
from random_weights import randomise
from torchvision.models.video.mvit import MSBlockConfig, MViT

from mssc.model import backbone3d
from mssc.model.backbone2d import CSPDarknet
from mssc.model.backbone3d import (
    TORCHVISION_VIDEO,
    CausalDarknet,
    CausalFlow,
    TemporalConv,
    TorchvisionBackbone,
    build_backbone3d,
)
from mssc.structures import InputError


def _age(batch=1, frames=0):
    return torch.full((batch,), frames)


def _shapes(state):
    return [x.shape for x in pytree.tree_leaves(state)]


def _clip(length, size, batch=1):
    return 255 * torch.rand(batch, 3, length, size, size)


@pytest.fixture(scope="module", params=[CausalDarknet, CausalFlow])
def net(request):
    backbone = request.param()
    return randomise(backbone, lambda: _run(backbone, _clip(4, 64)))


def _run(net, clip, chunks=None):
    memory, age, maps = net.initial(len(clip), clip.shape[3], clip), _age(len(clip)), []
    for part in clip.split(chunks or clip.shape[2], 2):
        x, memory = net(part, memory, age)
        age = age + part.shape[2]
        maps.append(x)
    return torch.cat(maps, 2), memory


# -------------------------------------------------------------------------------------------------------------- causal path


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_temporal_convolution_looks_back_to_a_video_that_stood_still(dilation, chunks):
    conv = randomise(TemporalConv(3, dilation))
    x = torch.randn(2, 7, 3, 2, 2)
    past, age, out = torch.full((2, 2 * dilation, 3, 2, 2), 99.0), _age(2), []  # what `past` holds at the start does not matter
    for part in x.split(chunks, 1):
        y, past = conv(part, past, age)
        age, out = age + part.shape[1], [*out, y]
    weight = conv.weight[:, None, :, None, None]
    wanted = [x[:, t] + sum(weight[2 - k] * x[:, max(t - k * dilation, 0)] for k in range(3)) for t in range(7)]
    assert torch.allclose(torch.cat(out, 1), torch.stack(wanted, 1), atol=1e-5)


@pytest.mark.parametrize(("size", "side"), [(32, 4), (33, 5), (40, 5), (63, 8), (64, 8)])
def test_it_returns_what_it_declares(net, size, side):
    with torch.no_grad():
        maps, memory = _run(net, _clip(3, size, batch=2))
    assert net.causal and net.dims == (480 if isinstance(net, CausalDarknet) else 96) and side == net.side(size)
    assert maps.shape == (2, net.dims, 3, side, side)
    assert _shapes(memory) == _shapes(net.initial(2, size, maps))


@pytest.mark.parametrize(("length", "size"), [(1, 33), (2, 40), (17, 35), (40, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stream_is_its_clip(net, length, size, dtype):
    exact, clip = copy.deepcopy(net).to(dtype), _clip(length, size).to(dtype)
    with torch.no_grad():
        whole, memory = _run(exact, clip)
        assert whole.abs().max() > 1  # random weights: torch's own would give 3e-4, and any difference would pass
        tolerance = 1e-10 if dtype == torch.float64 else 1e-4 * whole.abs().max()  # single precision rounds by 1e-5 of it
        for chunks in (1, 3, 8):
            streamed, after = _run(exact, clip, chunks)
            assert (streamed - whole).abs().max() < tolerance, chunks
            assert _shapes(after) == _shapes(memory)


def test_the_future_changes_nothing_and_inputs_are_kept(net):
    clip = _clip(6, 33)
    kept, other = clip.clone(), clip.clone()
    other[:, :, 4:] = 0
    with torch.no_grad():
        memory = net.initial(1, 33, clip)
        before, _ = net(clip, memory, _age())
        after, _ = net(other, memory, _age())
    assert torch.equal(clip, kept) and not any(x.any() for x in pytree.tree_leaves(memory))
    assert torch.allclose(before[:, :, :4], after[:, :, :4], atol=1e-5)
    assert not torch.allclose(before[:, :, 4], after[:, :, 4], atol=0.1)


def test_videos_of_different_age_share_a_batch(net):
    clip = _clip(5, 33, batch=2)
    with torch.no_grad():
        _, old = net(clip[:1, :, :3], net.initial(1, 33, clip), _age())
        new = net.initial(1, 33, clip)
        together, _ = net(clip[:, :, 3:], pytree.tree_map(lambda *pair: torch.cat(pair), old, new), torch.tensor([3, 0]))
        alone = [net(clip[:1, :, 3:], old, _age(frames=3))[0], net(clip[1:, :, 3:], new, _age())[0]]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_a_still_video_stays_what_its_first_frame_was(net):
    still = _clip(1, 40).expand(-1, -1, 6, -1, -1)
    with torch.no_grad():
        maps, _ = _run(net, still)
    assert torch.allclose(maps, maps[:, :, :1].expand_as(maps), atol=1e-4)  # its start does not look like motion


def test_inflated_it_sees_what_the_2d_network_sees():
    image_net, net = CSPDarknet(), CausalDarknet().eval()
    clip = _clip(3, 40)
    image_net = randomise(image_net, lambda: image_net(_clip(1, 64, batch=8)[:, :, 0]))
    net.inflate(image_net)
    for conv in net.temporal:
        torch.nn.init.zeros_(conv.weight)
    still = clip[:, :, :1].expand_as(clip)
    with torch.no_grad():
        _, fine, coarse = image_net(clip[:, :, 0])
        wanted = torch.cat([F.interpolate(x, size=(5, 5), mode="nearest") for x in (fine, coarse)], 1)
        maps, moving = (_run(net, x)[0][:, : -net.flow_dims] for x in (still, clip))
    assert torch.allclose(maps, wanted[:, :, None].expand_as(maps), atol=1e-4)
    assert torch.allclose(moving[:, :, 0], wanted, atol=1e-4) and not torch.allclose(moving[:, :, 1], wanted, atol=0.1)
    stem, theirs = (x.stem.conv.conv.weight.unflatten(1, (4, -1)) for x in (net.net, image_net))
    assert torch.equal(stem[:, :, :3], theirs) and torch.equal(stem[:, :, 3:], 0.5 * theirs)


def test_flow_channels_know_motion_and_nothing_else(net):
    def channels(clip):
        with torch.no_grad():
            return _run(net, clip)[0][:, -net.flow_dims :]

    still, other = (_clip(1, 64).expand(-1, -1, 4, -1, -1) for _ in range(2))
    assert torch.allclose(channels(still), channels(other), atol=1e-5)  # of whatever stands still they know nothing
    texture = F.interpolate(_clip(1, 24)[:, :, 0], size=(96, 96), mode="bicubic").clamp(0, 255)
    moving = torch.stack([texture[..., 16 : 16 + 64, 16 + 2 * t : 80 + 2 * t] for t in range(4)], 2)
    assert not torch.allclose(channels(moving)[:, :, 3], channels(still)[:, :, 3], atol=0.1)
    assert torch.allclose(channels(moving)[:, :, 0], channels(still)[:, :, 0], atol=1e-5)  # a start is no motion


def test_gradient_reaches_every_parameter():
    backbone = CausalDarknet()
    randomise(backbone, lambda: _run(backbone, _clip(4, 64)))
    _run(backbone, _clip(6, 64))[0].square().mean().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("darknet", "causal_flow, causal_cspdarknet_nano, causal_cspdarknet_nano_rgb, or torchvision/<name>"),
        ("torchvision/r2d2", "choose one of s3d, r3d_18"),
    ],
)
def test_unknown_names_are_refused_with_the_way_out(name, words):
    with pytest.raises(InputError) as error:
        build_backbone3d(name)
    assert words in str(error.value)
    assert isinstance(build_backbone3d("causal_cspdarknet_nano"), CausalDarknet)


# ------------------------------------------------------------------------------------------------------ torchvision's networks


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t"])
def test_maps_are_those_that_torchvision_pools(name):
    backbone = build_backbone3d(f"torchvision/{name}").eval()
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        maps, memory = backbone(clip, backbone.initial(1, 32, clip), _age())
        assert torch.allclose(maps.mean((2, 3, 4)), backbone.net(clip), atol=1e-4)  # its classifier has been taken away
    assert maps.shape[1] == backbone.dims and maps.shape[-1] == 32 // backbone.stride and memory == () and not backbone.causal
    assert backbone.flow_dims == 0


def test_s3d_maps():
    backbone = build_backbone3d("torchvision/s3d").eval()
    with torch.no_grad():
        maps, _ = backbone(torch.randn(1, 3, 16, 64, 64), (), _age())
    assert maps.shape == (1, backbone.dims, 2, 64 // backbone.stride, 64 // backbone.stride)


@pytest.mark.parametrize("name", ["s3d", "r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t"])
@pytest.mark.parametrize("size", [33, 40, 56, 72])
def test_sides_are_known_beforehand(name, size):
    backbone = build_backbone3d(f"torchvision/{name}").eval()
    with torch.no_grad():
        maps, _ = backbone(torch.randn(1, 3, 16 if name == "s3d" else 4, size, size), (), _age())
    assert maps.shape[-2:] == (backbone.side(size),) * 2


def small_mvit(name, weights=None):
    """MViT with two of its sixteen blocks, for 4 frames of 32x32: 2 x 4 x 4 cells, of which the second block keeps 2 x 2 x 2."""
    blocks = [
        MSBlockConfig(1, 8, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        MSBlockConfig(2, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
    ]
    return MViT((32, 32), 4, blocks, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True)


def test_mvit_maps_are_its_tokens_without_the_class(monkeypatch):
    monkeypatch.setattr(torchvision.models, "get_model", small_mvit)
    backbone, clip = TorchvisionBackbone("mvit_v2_s").eval(), torch.randn(1, 3, 4, 32, 32)
    seen = []
    backbone.net.norm.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        backbone.net(clip)
        maps, _ = backbone(clip, (), _age())
    assert maps.shape == (1, 32, 2, 4, 4)
    assert torch.allclose(maps.flatten(2).transpose(1, 2), seen[0][:, 1:], atol=1e-5)


def test_mvit_says_which_clips_it_takes(monkeypatch):
    monkeypatch.setattr(torchvision.models, "get_model", small_mvit)
    backbone = TorchvisionBackbone("mvit_v2_s")
    with pytest.raises(InputError, match="MViT got 6 frames of 64x64 pixels.*set window to 16 and clip_size to 224"):
        backbone(torch.randn(1, 3, 6, 64, 64), (), _age())


def test_declared_normalisation_is_that_of_the_weights():
    from torchvision.models import get_model_weights

    for name, (_, _, _, mean, std) in TORCHVISION_VIDEO.items():
        transform = get_model_weights(name).DEFAULT.transforms()
        assert (list(mean), list(std)) == (list(transform.mean), list(transform.std)), name
    backbone = build_backbone3d("torchvision/s3d")
    assert backbone.mean == pytest.approx([255 * v for v in TORCHVISION_VIDEO["s3d"][3]])  # in grey levels


def test_weights_that_cannot_be_had_are_named(monkeypatch):
    def offline(name, weights):
        assert weights == "DEFAULT"
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(InputError, match="torchvision/r3d_18 cannot be had: no route to host"):
        build_backbone3d("torchvision/r3d_18", pretrained=True)


def test_every_listed_backbone_builds():
    for name in backbone3d.BACKBONES3D:
        assert build_backbone3d(name).causal
