"""MSM and its comparators: the equations, what they claim, and streaming."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import randomise

from mssc.ablate.tables import ABLATIONS, PUBLISHED
from mssc.config import ModelConfig
from mssc.model.motion import (
    CausalDepthwise3d,
    ChannelGain,
    DepthwiseControl,
    DistanceBranch,
    MotionSense,
    MotionState,
    NoBranch,
    NoMotionSense,
    ProductBranch,
    RunningAverage,
    SimAM,
    SqueezeExcitation,
    VideoAverage,
    build_motion,
    causal_window_mean,
)

D, H, W, WINDOW = 16, 5, 3, 6
ROWS = {name: changes for name, changes in ABLATIONS["T-B"].items() if "motion_position" not in changes}
ROWS |= {"perceptual over t": {"motion_branches": "perceptual", "motion_average": "t"}, "window of 1": {"window": 1}}
ROWS |= {"no FFN": {"motion_ffn_ratio": 0.0}}


def _build(width=D, seed=0, **changes):
    return randomise(build_motion(width, ModelConfig(**({"window": WINDOW} | changes))), seed=seed)


def _age(batch=1, frames=0):
    return torch.full((batch,), frames)


def _run(module, x, chunks=None):
    """x (B, T, H, W, D) through a module, in chunks of frames."""
    memory, age, out = module.initial(len(x), *x.shape[2:4], x), _age(len(x)), []
    for part in x.split(chunks or x.shape[1], 1):
        y, memory = module(part, memory, age)
        age = age + part.shape[1]
        out.append(y)
    return torch.cat(out, 1), memory


# ---------------------------------------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("chunks", [1, 3, 9])
def test_window_mean_is_the_mean_of_the_frames_there_were(window, chunks):
    x = torch.randn(2, 9, 3, 1, 2)
    past, age, out = x.new_zeros(2, window - 1, 3, 1, 2), _age(2), []
    for part in x.split(chunks, 1):
        mean, past = causal_window_mean(part, past, age)
        age, out = age + part.shape[1], [*out, mean]
        assert past.shape[1] == window - 1
    wanted = [x[:, max(t + 1 - window, 0) : t + 1].mean(1) for t in range(9)]
    assert torch.allclose(torch.cat(out, 1), torch.stack(wanted, 1), atol=1e-6)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 7, 7), (1, 5, 3), (7, 1, 1)])
def test_depthwise_convolution_is_torchs_with_padding_on_the_left_of_time(kernel):
    conv = randomise(CausalDepthwise3d(4, kernel))
    x = torch.randn(2, 5, 4, 6, 4)
    padded = F.pad(x.permute(0, 4, 1, 2, 3), (kernel[2] // 2,) * 2 + (kernel[1] // 2,) * 2 + (kernel[0] - 1, 0))
    wanted = F.conv3d(padded, conv.weight, conv.bias, groups=4).permute(0, 2, 3, 4, 1)
    frames = torch.cat([x.new_zeros(2, kernel[0] - 1, 4, 6, 4), x], 1)
    assert torch.allclose(conv(frames, 5), wanted, atol=1e-5)


def _reference(m: MotionSense, x):
    """The equations of the reconstruction, one frame at a time, for the published switches."""
    p, s = m.perceptual, m.spacetime
    z = F.layer_norm(x, (D,), m.norm.weight, m.norm.bias)

    def conv(layer):
        t, h, w = layer.kernel
        padded = F.pad(z.permute(0, 4, 1, 2, 3), (w // 2, w // 2, h // 2, h // 2, t - 1, 0))
        return F.conv3d(padded, layer.weight, layer.bias, groups=D).permute(0, 2, 3, 4, 1)

    spacetime = conv(s.scale) * (conv(s.content[0]) + conv(s.content[1]))
    out = []
    for t in range(x.shape[1]):
        mu = z[:, max(t + 1 - WINDOW, 0) : t + 1].mean((1, 2, 3))[:, None, None]
        phi = (p.gate.weight * mu + p.gate.bias).clamp(min=0)
        perceptual = phi * (p.map.weight * z[:, t] + p.map.bias)
        y = x[:, t] + m.gamma1 * (perceptual + spacetime[:, t] + z[:, t])
        normed = F.group_norm(y.permute(0, 3, 1, 2), 16, m.ffn.norm.weight, m.ffn.norm.bias).permute(0, 2, 3, 1)
        first, _, last = m.ffn.layers
        hidden = F.gelu(normed @ first.weight.T + first.bias)
        out.append(y + m.gamma2 * (hidden @ last.weight.T + last.bias))
    return torch.stack(out, 1)


def test_msm_is_its_equations():
    module, x = _build(**PUBLISHED), torch.randn(2, 9, H, W, D)
    assert torch.allclose(_run(module, x)[0], _reference(module, x), atol=1e-5)


# ------------------------------------------------------------------------------------------------------- method, section 7


@pytest.mark.parametrize("centred", [False, True])
def test_1_deviation_from_the_average_is_rescaled_channel_by_channel(centred):
    branch = randomise(ProductBranch(VideoAverage("thw", WINDOW), D, "depthwise", centred))
    z = torch.randn(1, WINDOW, H, W, D)
    mu, _ = branch.average(z, branch.average.initial(1, H, W, D, z), _age())
    mu = mu[:, -1:]  # at the last frame: the average of the whole clip
    assert torch.allclose(mu, z.mean((1, 2, 3), keepdim=True), atol=1e-6)
    last = z[:, -1:]
    p, _ = branch(z, branch.initial(1, H, W, D, z), _age())
    assert torch.allclose(p[:, -1:], phi_content(branch, last, mu), atol=1e-5)
    moved = z + phi_content(branch, z, mu)
    centre = moved.mean((1, 2, 3), keepdim=True)
    phi = F.relu(branch.gate(mu))
    gain = 1 + branch.map.weight * phi
    assert (moved - centre - gain * (z - mu)).abs().max() < 1e-5
    assert (gain != 1).any() and (gain == 1).any()  # some gates are open, some are shut
    shift = phi * (branch.map.weight * mu + branch.map.bias) if not centred else torch.zeros(1)
    assert torch.allclose(centre - mu, shift.expand_as(mu), atol=1e-5)  # `centred` leaves the average in its place


def phi_content(branch, z, mu):
    """phi(mu) * (a Z + b_a), or of deviations."""
    content = branch.map(z) - (branch.map(mu) if branch.centred else 0)
    return F.relu(branch.gate(mu)) * content


def test_distance_to_the_average_grows_in_every_channel_by_one_plus_the_gain():
    branch, z = randomise(DistanceBranch(VideoAverage("thw", WINDOW), D)), torch.randn(1, WINDOW, H, W, D)
    seen = []
    branch.gain.register_forward_hook(lambda _, __, out: seen.append(out))
    p, _ = branch(z, branch.initial(1, H, W, D, z), _age())
    mu, gain = z.mean((1, 2, 3), keepdim=True), seen[0][:, -1:]
    before, after = z[:, -1:] - mu, (z + p)[:, -1:] - mu
    assert torch.allclose(after, (1 + gain) * before, atol=1e-5) and (gain > 0).all() and gain.std() > 0.1
    assert (after.norm(dim=-1) > before.norm(dim=-1)).all()


def test_every_weight_of_our_form_learns_at_the_start():
    torch.manual_seed(0)
    module = build_motion(D, ModelConfig(window=WINDOW))
    _run(module, torch.randn(2, 8, 7, 7, D))[0].square().sum().backward()
    assert [name for name, p in module.named_parameters() if not p.grad.abs().max() > 1e-6] == []


@pytest.mark.parametrize("axes", ["thw", "t"])
@pytest.mark.parametrize("chunks", [1, 4, 9])
def test_running_average_is_that_of_all_frames_so_far(axes, chunks):
    average, x = RunningAverage(axes), torch.randn(2, 9, H, W, D)
    past, out = average.initial(2, H, W, D, x), []
    for start in range(0, 9, chunks):
        part, past = average(x[:, start : start + chunks], past, _age(2, start))
        out.append(part)
    source = x.mean((2, 3), keepdim=True) if axes == "thw" else x
    wanted = torch.stack([source[:, : t + 1].mean(1) for t in range(9)], 1)
    assert torch.allclose(torch.cat(out, 1), wanted, atol=1e-5)


def test_a_separable_wide_kernel_reaches_as_far_in_time_as_in_space():
    module = _build(motion_branches="spacetime")
    assert [conv.kernel for conv in module.spacetime.content] == [(3, 3, 3), (1, 7, 7), (7, 1, 1)]
    x = torch.randn(1, 9, H, W, D)
    other = x.clone()
    other[:, 0] += 1
    change = (_run(module, x)[0] - _run(module, other)[0]).abs().amax((0, 2, 3, 4))
    assert (change[:7] > 0).all() and (change[7:] == 0).all()


FIVE = [
    "perceptual.map.weight",
    "perceptual.gate.weight",
    "spacetime.scale.weight",
    "spacetime.content.0.weight",
    "spacetime.content.1.weight",
]


def _gradients(module):
    x = torch.randn(2, 8, 7, 7, D)
    _run(module, x)[0].square().sum().backward()
    return {name: p.grad.abs().max().item() for name, p in module.named_parameters() if name in FIVE}


def test_2_all_five_weights_learn_at_the_start_and_zeros_never_would():
    torch.manual_seed(0)
    module = build_motion(D, ModelConfig(window=WINDOW, **PUBLISHED))
    assert {name: bool(grad > 1e-6) for name, grad in _gradients(module).items()} == dict.fromkeys(FIVE, True)
    zero = build_motion(D, ModelConfig(window=WINDOW, **PUBLISHED))
    with torch.no_grad():
        for name in FIVE:
            zero.get_parameter(name).zero_()
    assert _gradients(zero) == dict.fromkeys(FIVE, 0.0)


def test_3_gammas_of_zero_make_it_the_identity():
    module, x = _build(), torch.randn(2, 4, H, W, D)
    assert not torch.allclose(_run(module, x)[0], x, atol=0.1)
    with torch.no_grad():
        module.gamma1.zero_()
        module.gamma2.zero_()
    assert torch.equal(_run(module, x)[0], x)


# The reconstruction's table; LayerScale's 2D come on top, and GN's 2D are not there without the FFN that it feeds.
TABLE = {
    64: (13_568, 15_696, 21_888, 46_656, 8_832, 21_632, 29_952),
    128: (27_136, 35_488, 60_160, 158_848, 34_048, 59_648, 92_672),
    256: (54_272, 87_360, 185_856, 579_840, 133_632, 184_832, 316_416),
    464: (98_368, 206_596, 529_888, 1_823_056, 435_232, 528_032, 959_552),
    976: (206_912, 684_420, 2_114_016, 7_832_400, 1_914_912, 2_110_112, 4_017_216),
}
COLUMNS = (
    *({"motion_ffn_ratio": ratio} for ratio in (0.0, 0.25, 1.0, 4.0)),
    {"motion_branches": "perceptual"},
    {"motion_branches": "spacetime"},
    {"motion_fc": "full"},
)


def _size(width, **changes):
    """As published, unless changed."""
    return sum(p.numel() for p in build_motion(width, ModelConfig(**(PUBLISHED | changes))).parameters())


@pytest.mark.parametrize("width", TABLE)
def test_6_msm_has_the_tables_parameters(width):
    counts = [_size(width, **changes) - 2 * width for changes in COLUMNS]
    counts[0] += 2 * width
    assert counts == list(TABLE[width])


@pytest.mark.parametrize("width", [64, 128, 256])
@pytest.mark.parametrize(
    ("changes", "narrow", "wide", "narrow_ones", "extra"),
    [
        ({"motion_wide": 5}, 27, 75, 2, 0),
        ({"motion_wide": 9}, 27, 243, 2, 0),
        ({"motion_wide": 0}, 27, -1, 2, 0),  # -1: neither its weights nor its bias
        ({"motion_scale": "one"}, 27, 147, 1, 0),
        ({"motion_dims": "2d"}, 9, 49, 2, 0),
        ({"motion_dims": "1d"}, 3, 7, 2, 0),
        ({"motion_average": "none"}, 27, 147, 2, 1),  # the learned average
        ({"motion_average": "t"}, 27, 147, 2, 0),
        ({"motion_average": "hw"}, 27, 147, 2, 0),
        ({"motion_perceptual": "centred"}, 27, 147, 2, 0),
    ],
)
def test_6_every_switch_has_its_parameters(width, changes, narrow, wide, narrow_ones, extra):
    ffn = 2 * width * width + width + width
    assert _size(width, **changes) == width * (narrow_ones * (narrow + 1) + wide + 1 + 8 + 2 + extra) + ffn


def test_6_our_form_has_its_parameters():
    distance, kernels = 2 * 64 * 64 + 64, 64 * (28 + 50 + 8 + 28)  # two linear maps; 3x3x3, 1x7x7, 7x1x1 and the gate
    ffn, rest = 2 * 64 * 64 + 64 + 64, 64 * (2 + 2 + 2)  # LN, GN, LayerScale
    assert sum(p.numel() for p in build_motion(64, ModelConfig()).parameters()) == distance + kernels + ffn + rest


@pytest.mark.parametrize("width", [64, 128, 256])
def test_6_no_branch_no_module_and_the_comparators(width):
    ffn = 2 * width * width + 2 * width
    assert _size(width, motion_branches="none") == 6 * width + ffn  # LN, GN, LayerScale
    assert _size(width, motion="none") == _size(width, motion="simam") == 0
    assert _size(width, motion="se") == width * width // 2 + width // 4 + width
    assert _size(width, motion="dwconv") == pytest.approx(_size(width), rel=0.02)


@pytest.mark.parametrize("name", ROWS)
def test_10_one_frame_is_a_clip(name):
    module, x = _build(**ROWS[name]), torch.randn(2, 1, H, W, D)
    y, _ = _run(module, x)
    assert y.shape == x.shape and y.isfinite().all()


# --------------------------------------------------------------------------------------------------- streaming and contracts


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("length", [1, 2, 17, 40])
def test_a_stream_is_its_clip(name, length):
    module, x = _build(seed=length, **ROWS[name]), torch.randn(1, length, H, W, D)
    whole, memory = _run(module, x)
    sizes = [part.shape for part in memory]
    assert [part.shape for part in module.initial(1, H, W, x)] == sizes  # it does not grow
    for chunks in (1, 3, 8):
        streamed, memory = _run(module, x, chunks)
        assert torch.allclose(streamed, whole, atol=1e-5), chunks
        assert [part.shape for part in memory] == sizes


@pytest.mark.parametrize("name", ROWS)
def test_the_future_changes_nothing_and_inputs_are_kept(name):
    module, x = _build(**ROWS[name]), torch.randn(1, 8, H, W, D)
    before, other = x.clone(), x.clone()
    other[:, 5:] += 1
    memory = module.initial(1, H, W, x)
    whole = module(x, memory, _age())[0]
    assert torch.equal(x, before) and all(not part.any() for part in memory)
    assert torch.equal(module(other, memory, _age())[0][:, :5], whole[:, :5])


@pytest.mark.parametrize("name", ROWS)
def test_videos_of_different_age_share_a_batch(name):
    module, x = _build(**ROWS[name]), torch.randn(2, 9, H, W, D)
    _, old = module(x[:1, :7], module.initial(1, H, W, x), _age())
    new = module.initial(1, H, W, x)
    both = MotionState(*(torch.cat(pair) for pair in zip(old, new, strict=True)))
    together, _ = module(x[:, 7:], both, torch.tensor([7, 0]))
    alone = [module(x[:1, 7:], old, _age(frames=7))[0], module(x[1:, 7:], new, _age())[0]]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "no FFN"])  # without an FFN gamma2 is idle
def test_gradient_reaches_every_parameter(name):
    module, x = _build(**ROWS[name]), torch.randn(2, 8, 7, 7, D)
    if not list(module.parameters()):
        return
    _run(module, x)[0].square().sum().backward()
    idle = {"perceptual.map.bias"} if name == "centred" else set()  # a bias cancels in map(z) - map(mu)
    unreached = {n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert unreached - idle == set()


def test_the_average_forgets_what_left_the_window():
    module, x = _build(motion_branches="perceptual"), torch.randn(1, 10, H, W, D)
    y = _run(module, x)[0][:, -1]
    for back, felt in ((WINDOW, False), (WINDOW - 1, True)):
        other = x.clone()
        other[:, -1 - back] += torch.randn(D)
        assert torch.equal(_run(module, other)[0][:, -1], y) != felt


# The switches do what they say: what one changed cell of an earlier frame can reach at another place.
@pytest.mark.parametrize(
    ("changes", "reaches"),
    [
        ({"motion_branches": "none"}, False),
        ({"motion_branches": "spacetime", "motion_wide": 0}, False),  # 3x3x3 does not see 2 cells away
        ({"motion_branches": "spacetime", "motion_wide": 5, "motion_reach": "short"}, True),
        ({"motion_branches": "spacetime", "motion_wide": 5}, False),  # space or time, not both at once
        ({"motion_branches": "spacetime", "motion_dims": "2d"}, False),  # no time
        ({"motion_branches": "spacetime", "motion_dims": "1d"}, False),  # no space
        ({"motion_branches": "perceptual"}, True),  # through the average of everything
        ({"motion_branches": "perceptual", "motion_average": "t"}, False),  # an average at each place
        ({"motion_branches": "perceptual", "motion_average": "hw"}, False),  # an average of each frame
        ({"motion_branches": "perceptual", "motion_average": "none"}, False),
    ],
)
def test_switches_decide_what_is_seen(changes, reaches):
    module, x = _build(**changes, motion_ffn_ratio=0.0), torch.randn(1, 3, H, W, D)
    other = x.clone()
    other[:, 1, 2, 0] += torch.randn(D)
    same = torch.equal(_run(module, x)[0][:, 2, 2, 2], _run(module, other)[0][:, 2, 2, 2])
    assert same != reaches


def test_full_fc_mixes_channels_and_depthwise_does_not():
    assert isinstance(_build(**PUBLISHED).perceptual.gate, ChannelGain)
    full = _build(**PUBLISHED, motion_fc="full").perceptual
    z = torch.randn(1, 1, 1, 1, D)  # one cell: its own average
    mu = z
    wanted = F.relu(mu @ full.gate.weight.T + full.gate.bias) * (z @ full.map.weight.T + full.map.bias)
    assert torch.allclose(full(z, full.initial(1, 1, 1, D, z), _age())[0], wanted, atol=1e-5)


def test_no_scale_gate_is_the_sum_of_both_kernels():
    gated, plain = _build(**PUBLISHED).spacetime, _build(**PUBLISHED, motion_scale="one").spacetime
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if "scale" not in k})
    z, past = torch.randn(1, 4, H, W, D), torch.zeros(1, 2, H, W, D)
    content = plain(z, past, _age())[0]
    assert torch.allclose(gated(z, past, _age())[0], content * gated.scale(torch.cat([past, z], 1), 4), atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- comparators


def test_an_empty_slot_is_nothing():
    module, x = build_motion(D, ModelConfig(motion="none")), torch.randn(1, 2, H, W, D)
    assert isinstance(module, NoMotionSense) and not list(module.parameters())
    assert module(x, module.initial(1, H, W, x), _age())[0] is x and not any(part.numel() for part in module.initial(1, H, W, x))


def test_a_branch_left_out_adds_nothing():
    for branches, left_out in (
        ("none", ("perceptual", "spacetime")),
        ("perceptual", ("spacetime",)),
        ("spacetime", ("perceptual",)),
    ):
        module, x = _build(motion_branches=branches), torch.randn(1, 2, H, W, D)
        assert {name for name in ("perceptual", "spacetime") if isinstance(getattr(module, name), NoBranch)} == set(left_out)
        for name in left_out:
            branch = getattr(module, name)
            added, past = branch(x, branch.initial(1, H, W, D, x), _age())
            assert not list(branch.parameters()) and not added.any() and past.numel() == 0


def test_simam_is_its_authors_formula():
    x = torch.randn(2, 3, H, W, D)
    n = H * W - 1
    d = (x - x.mean((2, 3), keepdim=True)) ** 2
    energy = d / (4 * (d.sum((2, 3), keepdim=True) / n + 1e-4)) + 0.5
    assert torch.allclose(_run(SimAM(D), x)[0], x * torch.sigmoid(energy), atol=1e-6)
    assert _run(SimAM(D), x[:, :, :1, :1])[0].isfinite().all()  # one cell: no variance


def test_squeeze_excitation_gates_channels_by_the_clips_average():
    module, x = randomise(SqueezeExcitation(D, WINDOW)), torch.randn(1, WINDOW, H, W, D)
    y = _run(module, x)[0][:, -1]
    assert torch.allclose(y, x[:, -1] * module.gate(x.mean((1, 2, 3))), atol=1e-6)


def test_depthwise_control_is_residual():
    module, x = _build(motion="dwconv"), torch.randn(1, 3, H, W, D)
    assert isinstance(module, DepthwiseControl)
    with torch.no_grad():
        module.gamma.zero_()
    assert torch.equal(_run(module, x)[0], x)
