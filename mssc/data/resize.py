"""Frames of any size as the network takes them."""

import torch
from torch import Tensor


def resize(frames: Tensor, size: int) -> Tensor:
    """uint8 frames (T, 3, H, W) to (T, 3, size, size), bilinear with antialiasing: the one way in, for training and for users."""
    return torch.nn.functional.interpolate(frames, (size, size), mode="bilinear", antialias=True)
