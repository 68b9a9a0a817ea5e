"""Optical flow: known motions are found, the frame's edges and empty frames do no harm; and the network that looks at nothing else."""

import pytest
import torch
import torch.nn.functional as F
from random_weights import randomise

from mssc.model.flow import FlowStream, optical_flow


def _texture(side, cells=20, seed=0):
    noise = torch.rand(1, 1, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=True).clamp(0, 1)


def _shifted(texture, x, y, size=112, start=24.0):
    """A view of the texture from `start` + (x, y) pixels on, sampled between pixels."""
    side = texture.shape[-1]
    line = torch.arange(size) + start + 0.5
    grid = torch.stack(torch.meshgrid(line + y, line + x, indexing="ij")[::-1], -1) / side * 2 - 1
    return F.grid_sample(texture, grid[None], align_corners=False)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0, -1), (0.3, 0.2), (-2.5, 1.5), (4, -3), (-4, 4)])
def test_a_known_shift_is_found_everywhere(x, y):
    texture = _texture(160)
    now, before = _shifted(texture, 0, 0), _shifted(texture, x, y)  # the view moved by -x, so what is at p now was at p - x
    flow = optical_flow(now, before)
    assert flow.shape == (1, 2, 112, 112)
    inner = flow[0, :, 12:-12, 12:-12]
    error = (inner - torch.tensor([-x, -y])[:, None, None]).norm(dim=0)
    assert error.mean() < 0.15, error.mean()


def test_warping_the_frame_before_gives_the_frame():
    texture = _texture(160, seed=1)
    now, before = _shifted(texture, 0, 0), _shifted(texture, 2, 1)
    flow = optical_flow(now, before)
    ys, xs = torch.meshgrid(torch.arange(112), torch.arange(112), indexing="ij")
    grid = torch.stack([(xs + flow[0, 0] + 0.5) / 56 - 1, (ys + flow[0, 1] + 0.5) / 56 - 1], -1)[None]
    back = F.grid_sample(before, grid, align_corners=False)
    inner = (..., slice(8, -8), slice(8, -8))
    assert (back - now)[inner].abs().mean() < 0.15 * (before - now)[inner].abs().mean()


def test_an_actor_moves_before_a_still_background():
    ground, figure = _texture(112, 28, seed=2), _texture(112, 28, seed=3)
    frames = []
    for left in (40, 43):  # three pixels to the right
        frame = ground.clone()
        frame[..., 40:80, left : left + 30] = figure[..., 40:80, :30]
        frames.append(frame)
    flow = optical_flow(frames[1], frames[0])[0]
    assert flow[0, 48:72, 50:66].median() == pytest.approx(-3, abs=0.3)
    assert flow[:, :30].abs().max() < 0.3


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_without_texture_there_is_no_motion(value):
    flat = torch.full((2, 1, 33, 47), value)
    assert torch.equal(optical_flow(flat, flat), torch.zeros(2, 2, 33, 47))
    brighter = optical_flow(flat, flat * 0.9)
    assert brighter.abs().max() == 0


def test_batches_odd_sizes_and_inputs():
    now, before = torch.rand(3, 1, 37, 51), torch.rand(3, 1, 37, 51)
    kept = now.clone(), before.clone()
    together = optical_flow(now, before)
    alone = torch.cat([optical_flow(now[i : i + 1], before[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 2, 37, 51) and together.isfinite().all()
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(now, kept[0]) and torch.equal(before, kept[1])
    assert optical_flow(now.double(), before.double()).dtype == torch.float64


# ------------------------------------------------------------------------------------------------------------- the stream


def test_the_cameras_motion_is_taken_out():
    panned = torch.cat([_shifted(_texture(112, 28), 2 * t, 0, 64) for t in range(2)])[None].expand(-1, -1, 3, -1, -1) * 255
    flows = FlowStream()._flows(panned[:, 1:], panned[:, :1])[0, 0]
    assert flows.shape == (3, 32, 32)
    assert flows[:2, 4:-4, 4:-4].abs().mean() < 0.2  # the two pixels of the camera are gone


def test_a_stack_is_the_flow_of_the_last_frames():
    stream, seen = FlowStream().eval(), []
    stream.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    frames = 255 * torch.rand(2, 12, 3, 33, 33)
    with torch.no_grad():
        stream(frames, frames[:, :1], stream.initial(2, 33, frames))
        flows = stream._flows(frames, frames[:, :1])
    stacks = seen[0].unflatten(0, (2, 12)).unflatten(2, (stream.frames, stream.channels))
    assert flows[:, 0].abs().max() < 1e-4 and not stacks[:, 4, :5].any()  # a start is no motion
    assert flows[:, 1].abs().max() > 0.1
    for t in (4, 9, 11):
        past = flows[:, max(t - 9, 0) : t + 1]
        assert torch.equal(stacks[:, t, -past.shape[1] :], past)


@pytest.mark.parametrize("chunks", [1, 3, 8])
def test_its_stream_is_its_clip(chunks):
    stream, frames = FlowStream(), 255 * torch.rand(1, 13, 3, 33, 33)
    start = frames[:, :1], stream.initial(1, 33, frames)
    randomise(stream, lambda: stream(frames, *start))
    with torch.no_grad():
        whole, past = stream(frames, *start)
        (before, state), out = start, []
        for part in frames.split(chunks, 1):
            maps, state = stream(part, before, state)
            before, out = part[:, -1:], [*out, maps]
    assert whole.shape == (13, stream.dims, 5, 5) and whole.abs().max() > 0.1
    assert torch.allclose(torch.cat(out), whole, atol=1e-4) and torch.allclose(state, past, atol=1e-5)
