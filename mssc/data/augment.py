"""Augmentation of a clip together with the boxes of its key frames, by torchvision's v2 transforms."""

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Video

VISIBLE = 0.6
"""A crop keeps at least this share of every box; a box of less would not show its action."""


class Augment:
    """Random crop, flip, brightness, contrast, saturation, sometimes grey or blurred; the same for all frames of a clip.

    Args:
        size: side of the square result in pixels.
        smallest_crop: share of the frame's area.
    """

    def __init__(self, size: int, smallest_crop: float) -> None:
        self.size, self.smallest_crop = size, smallest_crop
        self.appearance = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4)], 0.8),
                v2.RandomGrayscale(0.1),
                v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], 0.1),
            ]
        )

    def _crop(self, height: int, width: int, boxes: Tensor) -> tuple[int, int, int, int]:
        """Top, left, height, width of a crop that keeps `VISIBLE` of every box; the whole frame if ten tries find none."""
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        for _ in range(10):
            share = torch.empty(1).uniform_(self.smallest_crop, 1).item()
            aspect = torch.empty(1).uniform_(-0.35, 0.35).exp().item()
            h, w = min((share / aspect) ** 0.5, 1) * height, min((share * aspect) ** 0.5, 1) * width
            top, left = torch.rand(1).item() * (height - h), torch.rand(1).item() * (width - w)
            seen_low = torch.maximum(boxes[:, :2], torch.tensor([left, top]))
            seen_high = torch.minimum(boxes[:, 2:], torch.tensor([left + w, top + h]))
            if ((seen_high - seen_low).clamp(min=0).prod(1) >= VISIBLE * area).all():
                return int(top), int(left), max(int(h), 1), max(int(w), 1)
        return 0, 0, height, width

    def __call__(self, frames: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Augment with torch's global random state.

        Args:
            frames: (T, 3, H, W) uint8. Not modified.
            boxes: (N, 4) in its pixels, of any frames.

        Returns:
            Frames (T, 3, size, size) uint8, boxes (N, 4) in their pixels, clipped to the frame.
        """
        height, width = frames.shape[-2:]
        crop = self._crop(height, width, boxes)
        video = Video(F.resized_crop(Video(frames), *crop, [self.size, self.size], antialias=True))
        rows = BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))  # type: ignore[call-overload]
        rows = F.clamp_bounding_boxes(F.resized_crop(rows, *crop, [self.size, self.size]))
        video, rows = self.appearance(video, rows)
        return video.as_subclass(Tensor), rows.as_subclass(Tensor)
