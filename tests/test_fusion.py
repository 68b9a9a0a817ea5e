"""SFM and what it is compared with: the equations, the sizes, and what each lets through."""

import math

import pytest
import torch
import torch.nn.functional as F
from random_weights import randomise
from torch import nn

from mssc.config import ModelConfig
from mssc.model.features import ImageFeatures, VideoFeatures
from mssc.model.fusion import (
    FUSION,
    AttentionExchange,
    ChannelAttention,
    ChannelContext,
    ContextExchange,
    Exchange,
    PathDropout,
    Rectify,
    build_fusion,
    build_level,
)
from mssc.structures import InputError

C = 32
ROWS = {name: {"fusion": name} for name in FUSION}
ROWS |= {
    "context / N": {"fusion_context": "mean"},
    "CMX": {"fusion_context": "none", "fusion_norm": "layer"},
    "heads": {"fusion_head_width": 8},
    "rho": {"fusion_reduction": 2},
    "no skip": {"fusion_skip": "none"},
    "exchange alone": {"fusion_residual": "none"},
    "centred": {"fusion_context": "centred"},
}


def _config(**changes):
    whole = {"fusion_reduction": 1, "fusion_residual": "part", "fusion_context": "correlation"}
    return ModelConfig(**({"width": C, "fusion_head_width": 16} | whole | changes))


def _build(seed=0, **changes):
    return randomise(build_level(_config(**changes)), seed=seed)


def _exchange(normalise="none", reduction=1, head_width=16, by_position=False):
    inner = C // reduction
    heads = max(inner // head_width, 1)
    return randomise(
        Exchange(C, inner, heads, lambda: AttentionExchange() if by_position else ContextExchange(heads, normalise), norm=True)
    )


def _maps(height=7, width=5, channels=C, batch=2):
    return torch.randn(batch, channels, height, width), torch.randn(batch, channels, height, width)


def _seen(module, *inputs):
    """The last output of a submodule while the caller's function runs."""
    seen = []
    handle = module.register_forward_hook(lambda _, __, out: seen.append(out))
    inputs[0](*inputs[1:])
    handle.remove()
    return seen[-1]


# ----------------------------------------------------------------------------------------------------------------- equations


def _reference(m: Exchange, maps, normalise=False):
    """CMX's equations 7 and 8, one head and one image at a time."""
    tokens = [x.flatten(2).transpose(1, 2) for x in maps]
    parts, out = [], []
    for i, x in enumerate(tokens):
        r, u = (x @ m.project[i].weight.T + m.project[i].bias).clamp(min=0).chunk(2, 2)
        k, v = (u @ m.key_value[i].weight.T).chunk(2, 2)
        parts.append((r, u, k, v))
    for i, x in enumerate(tokens):
        r, q, _, _ = parts[i]
        _, _, k, v = parts[1 - i]
        width = q.shape[2] // m.heads
        taken = torch.zeros_like(q)
        for image in range(len(x)):
            for head in range(m.heads):
                here = slice(head * width, (head + 1) * width)
                product = k[image, :, here].T @ v[image, :, here] / math.sqrt(width)
                context = (product / len(x[image]) if normalise else product).exp()
                taken[image, :, here] = q[image, :, here] @ (context / context.sum(0))
        y = x + torch.cat([r, taken], 2) @ m.leave[i].weight.T + m.leave[i].bias
        y = F.layer_norm(y, (y.shape[2],), m.norm[i].weight, m.norm[i].bias)
        out.append(y.transpose(1, 2).reshape(maps[i].shape))
    return out


@pytest.mark.parametrize("changes", [{}, {"head_width": 8}, {"reduction": 2}, {"normalise": "mean"}])
def test_stage_1_is_its_equations(changes):
    module, maps = _exchange(**changes), _maps(3, 2)
    for got, wanted in zip(module(*maps), _reference(module, maps, "normalise" in changes), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_stage_2_is_its_equation():
    module, maps = _build(fusion="sfm2"), _maps()
    e = torch.cat(maps, 1)
    first, depthwise, _, last, norm = module.skip
    skip = norm(last(F.relu(F.conv2d(first(e), depthwise.weight, depthwise.bias, padding=1, groups=C))))
    assert torch.allclose(module(*maps), module.norm(F.conv2d(e, module.embed.weight) + skip), atol=1e-5)


def test_sfm_is_exchange_then_merge():
    maps, whole = _maps(), _build(fusion="frm+sfm")
    assert torch.equal(whole(*maps), whole.merge(*whole.exchange(*whole.rectify(*maps))))
    assert _build().rectify is None  # off by default
    alone = _build(fusion="sfm1")
    assert torch.equal(alone(*maps), sum(alone.exchange(*maps)))


def test_rectification_takes_from_the_other_path():
    module, (a, m) = randomise(Rectify(C)), _maps()
    pooled = torch.cat([a.mean((2, 3)), m.mean((2, 3)), a.amax((2, 3)), m.amax((2, 3))], 1)
    channel, place = module.channel(pooled), module.place(torch.cat([a, m], 1))
    gate_a, gate_m = channel[:, :C, None, None] + place[:, :1], channel[:, C:, None, None] + place[:, 1:]
    for got, wanted in zip(module(a, m), (a + 0.5 * gate_m * m, m + 0.5 * gate_a * a), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_channel_attention_prefers_unlike_channels():
    attention, x = ChannelAttention(), torch.randn(1, 3, 2, 2)
    assert torch.equal(attention(x), x)  # its share starts at 0
    attention.gamma.data.fill_(1.0)
    flat = x[0].flatten(1)
    gram = flat @ flat.T
    weights = torch.stack([torch.softmax(row.max() - row, 0) for row in gram])
    assert torch.allclose(attention(x)[0].flatten(1), flat + weights @ flat, atol=1e-5)


def test_initialisation_is_cmxs():
    torch.manual_seed(0)
    module = build_level(ModelConfig(width=256, fusion="frm+sfm", fusion_context="none"))
    for part in module.modules():
        if isinstance(part, nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.2)
        if isinstance(part, nn.Conv2d) and part.out_channels > 2:
            fan_out = part.kernel_size[0] ** 2 * part.out_channels / part.groups
            assert part.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        if isinstance(part, (nn.Linear, nn.Conv2d)) and part.bias is not None:
            assert not part.bias.any()


# --------------------------------------------------------------------------------------------------------- method, section 7


def test_4_places_of_the_other_path_do_not_matter():
    module, (a, m) = _exchange(), _maps()
    order = torch.randperm(35)
    moved = m.flatten(2)[..., order].reshape(m.shape)
    (a_before, m_before), (a_after, m_after) = module(a, m), module(a, moved)
    assert (a_before - a_after).abs().max() < 1e-5
    assert (m_before.flatten(2)[..., order] - m_after.flatten(2)).abs().max() < 1e-5
    assert (m_before - m_after).abs().max() > 0.1
    assert (module(a, torch.randn_like(m))[0] - a_before).abs().max() > 0.01  # yet its content does


@pytest.mark.parametrize("normalise", ["none", "mean", "correlation", "centred"])
def test_5_columns_of_the_context_sum_to_1(normalise):
    module = _exchange(normalise)
    for take in module.take:
        g = _seen(take.context, module, *_maps())
        assert g.shape == (2, 2, 16, 16)  # batch, heads, key channels, value channels
        assert torch.allclose(g.sum(2), torch.ones(2, 2, 16), atol=1e-6)
        assert (g.sum(3) - 1).abs().max() > 0.01  # rows do not


def _count(width, **changes):
    """As CMX has it, unless changed."""
    cmx = {"fusion_context": "none", "fusion_norm": "layer", "fusion_reduction": 1, "fusion_residual": "part"}
    config = ModelConfig(**({"width": width} | cmx | changes))
    return sum(p.numel() for p in build_level(config).parameters())


@pytest.mark.parametrize("c", [64, 128, 256])
def test_6_parameter_formulas(c):
    stage1, stage2 = 12 * c * c + 10 * c, 5 * c * c + 16 * c
    wanted = {
        "add": c * c + 2 * c,
        "concat": 2 * c * c + 2 * c,
        "cfam": 21 * c * c + 7 * c + 1,
        "sfm1": stage1,
        "sfm2": stage2,
        "sfm": 17 * c * c + 26 * c,
        "frm+sfm": 43 * c * c + 35 * c + 2,
        "sfm_attention": 17 * c * c + 26 * c,
    }
    assert {name: _count(c, fusion=name) for name in FUSION} == wanted
    table = {
        64: (71_296, 49_792, 21_504, 86_465),
        128: (281_856, 197_888, 83_968, 344_961),
        256: (1_120_768, 788_992, 331_776, 1_378_049),
    }
    assert (wanted["sfm"], stage1, stage2, wanted["cfam"]) == table[c]
    assert sum(p.numel() for p in Rectify(c).parameters()) == {64: 107_074, 128: 427_138, 256: 1_706_242}[c]
    inner = c // 2
    half1 = 2 * (2 * c * inner + 2 * inner + 2 * inner**2 + 2 * inner * c + c + 2 * c)
    half2 = 2 * c * c + 3 * c * inner + 11 * inner + 5 * c
    assert _count(c, fusion_reduction=2, fusion_head_width=32) == half1 + half2
    assert _count(c, fusion_skip="none") == stage1 + 2 * c * c + 2 * c
    assert _count(c, fusion_head_width=16) == _count(c, fusion_context="mean") == wanted["sfm"]  # neither has weights
    assert _count(c, fusion_norm="none") == wanted["sfm"] - 4 * c
    assert _count(c, fusion_context="correlation") == wanted["sfm"] + 2 * c // 64  # a temperature per head and path
    alone = _count(c, fusion_residual="none")  # half of what comes in and of what leaves, in both paths
    assert alone == wanted["sfm"] - 2 * (c * c + c) - 2 * c * c
    assert _count(c, paths="key") == _count(c, paths="clip") == 0


@pytest.mark.parametrize("name", ROWS)
def test_7_every_fusion_keeps_the_shape(name):
    module = _build(**ROWS[name])
    for height, width in [(7, 7), (14, 14), (28, 28), (5, 9), (1, 3), (1, 1)]:
        with torch.no_grad():
            out = module(*_maps(height, width))
        assert out.shape == (2, C, height, width) and out.isfinite().all(), (height, width)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sfm", "frm+sfm"])
def test_9_half_precision_is_finite_at_784_tokens(dtype, name):
    module, maps = _build(fusion=name), _maps(28, 28, batch=1)
    exact = module(*maps)
    if dtype == torch.bfloat16:
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
            out = module(*maps)
    else:
        with torch.no_grad():
            out = module.half()(*(x.half() for x in maps))
    assert out.dtype == dtype and out.isfinite().all()
    assert (out.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_9_a_context_that_half_precision_cannot_hold_is_summed_in_single():
    keys, values = 30 * torch.rand(1, 1, 784, 8).half(), 30 * torch.rand(1, 1, 784, 8).half()
    assert not (keys.transpose(2, 3) @ values).isfinite().all()
    g = ChannelContext(1, "none")(keys, values)
    assert g.dtype == torch.float32 and g.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ChannelContext(1, "none")(keys, values), g)  # autocast does not reach inside


# ------------------------------------------------------------------------------------------------------ variants and contracts


def test_normalised_contexts_do_not_sharpen_with_size():
    keys, values = torch.rand(1, 1, 10, 8), torch.rand(1, 1, 10, 8)
    once, four = (keys, values), (keys.repeat(1, 1, 4, 1), values.repeat(1, 1, 4, 1))
    mean, plain, correlation = (ChannelContext(1, name) for name in ("mean", "none", "correlation"))
    assert torch.allclose(mean(*once), mean(*four), atol=1e-6)
    assert torch.allclose(correlation(*once), correlation(*four), atol=1e-6)
    assert torch.allclose(correlation(*once), correlation(7 * once[0], 3 * once[1]), atol=1e-6)  # nor with the features' scale
    assert plain(*four).amax() > 1.05 * plain(*once).amax()


def test_a_centred_context_does_not_see_how_large_channels_are_but_how_they_vary():
    keys, values = torch.rand(1, 1, 10, 8), torch.rand(1, 1, 10, 8)
    centred = ChannelContext(1, "centred")
    assert torch.allclose(centred(keys, values), centred(keys + 5, values + 3), atol=1e-4)
    values[..., 2] = keys[..., 6]  # they vary together, so there the context is strongest
    assert centred(keys, values)[0, 0, :, 2].argmax() == 6


@pytest.mark.parametrize("motion", [0.4, 1e-6], ids=["moving", "still"])
def test_the_gradient_of_a_new_exchange_drowns_no_other(motion):
    """Gradients are clipped by their common norm: a part whose own is a thousand times larger would leave the others none."""
    torch.manual_seed(0)
    level = build_level(ModelConfig())
    a, m = 0.4 * torch.randn(8, 64, 14, 14), (1 + motion * torch.randn(8, 64, 14, 14)).requires_grad_()
    (level(a, m) * torch.randn(8, 64, 14, 14)).sum().backward()
    size = {name: sum(float(p.grad.square().sum()) for p in part.parameters()) ** 0.5 for name, part in level.named_children()}
    assert 0 < size["exchange"] < 3 * size["merge"]
    assert m.grad.norm() < 10 * size["merge"]


def test_an_exchange_alone_takes_all_its_correction_from_the_other_path():
    module, (a, m) = randomise(build_level(_config(fusion_residual="none")).exchange), _maps()
    for take in module.take:
        take.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    with torch.no_grad():
        corrected = module(a, m)
    for path, before, leave in zip(corrected, (a, m), module.leave, strict=True):
        assert torch.allclose(path, before + leave.bias[:, None, None], atol=1e-5)


def test_softmax_variant_is_ordinary_cross_attention():
    module, maps = _exchange(by_position=True), _maps()
    attention = _seen(module.take[0].weights, module, *maps)
    assert attention.shape == (2, 2, 35, 35) and torch.allclose(attention.sum(3), torch.ones(2, 2, 35))
    u_a, u_m = (F.relu(module.project[i](x.flatten(2).transpose(1, 2))).chunk(2, 2)[1] for i, x in enumerate(maps))
    k, v = module.key_value[1](u_m).chunk(2, 2)
    q, k, v = (x.unflatten(2, (2, 16)).transpose(1, 2) for x in (u_a, k, v))
    taken = _seen(module.leave[0], module, *maps)
    wanted = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    residual = F.relu(module.project[0](maps[0].flatten(2).transpose(1, 2))).chunk(2, 2)[0]
    assert torch.allclose(taken, module.leave[0](torch.cat([residual, wanted], 2)), atol=1e-4)


@pytest.mark.parametrize("name", ROWS)
def test_gradient_reaches_every_parameter_and_both_paths(name):
    module, maps = _build(**ROWS[name]), [x.requires_grad_() for x in _maps()]
    module(*maps).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(x.grad.abs().sum() > 0 for x in maps)


@pytest.mark.parametrize("name", ROWS)
def test_a_batch_is_its_images_and_inputs_are_kept(name):
    module, (a, m) = _build(**ROWS[name]), _maps()
    before = a.clone(), m.clone()
    with torch.no_grad():
        both = module(a, m)
        singles = [module(a[i : i + 1], m[i : i + 1]) for i in range(2)]
    assert torch.allclose(both, torch.cat(singles), atol=1e-5)
    assert torch.equal(a, before[0]) and torch.equal(m, before[1])


def test_one_path_is_passed_on_as_it_is():
    a, m = _maps()
    assert _build(paths="key")(a, m) is a and _build(paths="clip")(a, m) is m


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="96 channels do not split into heads of 64; choose another fusion_head_width"):
        build_fusion(ModelConfig(width=96, fusion_reduction=1), (96,) * 3)
    assert build_level(ModelConfig(width=48)).exchange.heads == 1  # narrower than one head: a head of 48


def test_attention_looks_at_14_by_14_places_at_most():
    module = _exchange(by_position=True)
    assert _seen(module.take[1].weights, module, *_maps(28, 28)).shape == (2, 2, 784, 196)
    assert _seen(module.take[1].weights, module, *_maps(14, 14)).shape == (2, 2, 196, 196)
    flat = [x.mean((2, 3), keepdim=True).expand(-1, -1, 28, 28) for x in _maps()]
    same = [x[..., :14, :14] for x in flat]  # means of equal places are those places
    for large, small in zip(module(*flat), module(*same), strict=True):
        assert torch.allclose(large[..., :1, :1], small[..., :1, :1], atol=1e-5)


def test_without_a_norm_what_moves_more_stays_larger():
    module, (a, m) = _build(fusion="sfm1", fusion_norm="none").exchange, _maps()
    small, large = (module(a, scale * m)[1].norm(dim=1).mean() for scale in (1, 10))
    assert large > 4 * small


def test_paths_are_dropped_in_training_alone():
    drop, (a, m) = PathDropout(0.5, 0.3), _maps(batch=400)
    assert drop.eval()((a,), m)[1] is m
    torch.manual_seed(0)
    (images,), motion = drop.train()((a,), m)
    no_image, no_motion = ((x != y).flatten(1).any(1) for x, y in ((images, a), (motion, m)))
    assert no_image.float().mean() == pytest.approx(0.5, abs=0.1) and no_motion.float().mean() == pytest.approx(0.3, abs=0.1)
    assert not (no_image & no_motion).any()
    assert torch.allclose(images[no_image], a.mean((0, 2, 3), keepdim=True).expand_as(images[no_image]), atol=1e-6)


# ------------------------------------------------------------------------------------------------------------------ all levels


def _features(sides=(8, 4, 2), side=4, batch=2):
    image = ImageFeatures((), tuple(torch.randn(batch, C, n, n) for n in sides))
    nothing = torch.zeros(batch, 0)
    return image, VideoFeatures(nothing, torch.randn(batch, C, side, side), ())


@pytest.mark.parametrize("branch", ["shared", "task"])
@pytest.mark.parametrize("side", [4, 3])
def test_every_level_is_fused_with_the_motion_of_its_place(branch, side):
    fusion = build_fusion(_config(fusion_branch=branch), (_config().width,) * 3)
    image, video = _features(side=side)
    randomise(fusion, lambda: fusion(image, video))
    fused = fusion(image, video)
    assert len(fusion.levels) == len(fused) == (3 if branch == "shared" else 6)
    for place, found in enumerate(fused):
        spatial, n = image.maps[place % 3], (8, 4, 2)[place % 3]
        cells = torch.arange(n) * side // n  # of the motion map, nearest
        assert torch.equal(found, fusion.levels[place](spatial, video.map[:, :, cells][..., cells]))


def test_with_one_path_there_is_nothing_to_learn_or_to_split():
    image, video = _features()
    for paths in ("key", "clip"):
        fusion = build_fusion(_config(paths=paths, fusion_branch="task"), (_config().width,) * 3)
        fused = fusion(image, video)
        assert not list(fusion.parameters()) and len(fused) == 3
        assert [x.shape for x in fused] == [x.shape for x in image.maps]
        assert all((a is b) == (paths == "key") for a, b in zip(fused, image.maps, strict=True))
