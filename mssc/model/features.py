"""What passes between the parts of the network, in the order of the paper's figure."""

from typing import NamedTuple

from torch import Tensor


class ImageFeatures(NamedTuple):
    """What the image path sees, fine to coarse.

    Attributes:
        levels: (B, C_l, H_l, W_l), the neck's maps; () without an image path.
        maps: (B, C_l, H_l, W_l), what enters the fusion: the same maps, or these behind the stems, all of width C.
    """

    levels: tuple[Tensor, ...]
    maps: tuple[Tensor, ...]

    def among(self, frames: slice) -> "ImageFeatures":
        """Those of some of the B frames."""
        levels, maps = (tuple(x[frames] for x in part) for part in (self.levels, self.maps))
        return ImageFeatures(levels, maps)


class VideoFeatures(NamedTuple):
    """What the video path sees.

    Attributes:
        motion: (B, D, T, h, w), MSM's output for every frame.
        map: (B * K, D, h, w), the same without time, of the key frames: what enters the fusion.
        bypass: what the two-stream classifier reads past fusion, () for others: (B * K, 3 D), MSM's pooled temporal statistics, and two
            maps (B * K, C, h, w) that know the optical flow alone, now and on average; C = 0 where there is no flow stream.
    """

    motion: Tensor
    map: Tensor
    bypass: tuple[Tensor, ...]


class Features(NamedTuple):
    """All that the network sees of B key frames (of video.motion: in all frames).

    Attributes:
        image: the image path's.
        video: the video path's, MSM's output among them.
        fused: SFM's output, one (B, C_l, H_l, W_l) map per level, fine to coarse; and, after them, those for the box branch where it has
            its own.
    """

    image: ImageFeatures
    video: VideoFeatures
    fused: tuple[Tensor, ...]

    def key_frame(self, row: int) -> "Features":
        """Those of one key frame, B = 1; `video.motion` stays as it is."""
        one = slice(row, row + 1)
        video = VideoFeatures(self.video.motion, self.video.map[one], tuple(x[one] for x in self.video.bypass))
        return Features(self.image.among(one), video, tuple(x[one] for x in self.fused))
