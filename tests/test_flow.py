"""Optical flow: known motions are found, the frame's edges and empty frames do no harm."""

import pytest
import torch
import torch.nn.functional as F

from mssc.model.flow import optical_flow


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
