"""RoIAlign by torchvision's library alone, and by all of torchvision: the same."""

import sys

import torch
from torchvision import ops

from mssc.model.operators import roi_align


def test_the_library_alone_gives_what_torchvision_gives(monkeypatch):
    torch.manual_seed(0)
    maps, rois = torch.rand(2, 8, 20, 20), torch.tensor([[0, 1.0, 2, 15, 18], [1, 0, 0, 30, 40]])
    wanted = ops.roi_align(maps, rois, 4, 0.5, 1, True)
    monkeypatch.delitem(sys.modules, "torchvision")
    with torch.no_grad():
        assert torch.equal(roi_align(maps, rois, 4, 0.5), wanted)
    assert "torchvision" not in sys.modules


def test_gradients_are_torchvisions():
    torch.manual_seed(0)
    maps, rois = torch.rand(1, 8, 20, 20, requires_grad=True), torch.tensor([[0, 1.0, 2, 15, 18]])
    roi_align(maps, rois, 4, 0.5).sum().backward()
    wanted, maps.grad = maps.grad, None
    ops.roi_align(maps, rois, 4, 0.5, 1, True).sum().backward()
    assert wanted is not None and wanted.any() and torch.equal(wanted, maps.grad)


def test_boxes_that_are_no_numbers_lie_at_zero():
    """torchvision would read anywhere in memory."""
    maps, rois = torch.rand(1, 2, 8, 8), torch.tensor([[0.0, float("nan"), 2, float("inf"), 1e38]])
    with torch.no_grad():
        assert roi_align(maps, rois, 4, 0.5).isfinite().all()
