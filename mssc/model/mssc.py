"""MS-SC: the paper's figure as one network, for clips and for streams."""

from torch import Tensor, nn

from ..config import ModelConfig
from ..structures import Predictions
from .backbone2d import STRIDES
from .features import Features
from .fusion import build_fusion
from .head import build_head
from .hub import HubMixin
from .image import build_image_path
from .person import build_person_detector
from .video import Keys, State, build_video_path, take


class MSSC(nn.Module, HubMixin):
    """The network.

    ::

        key frames --> ImagePath: backbone, PAFPN ----------------------+
                                                                        +--> Fusion: SFM per level --> Head: boxes, actions
        clip -------> VideoPath: backbone, P3, MSM, collapse of time ---+

    A detector of people, where there is one, finds everybody, whatever they do: see `people`.

    Args:
        config: what it is made of.
        pretrained: whether backbones of timm and torchvision load their published weights.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.about: dict = {}  # what its folder tells of it: its threshold, what it learnt from
        self.image = build_image_path(config, pretrained)
        self.video = build_video_path(config, pretrained)
        self.fusion = build_fusion(config, self.image.widths)
        self.head = build_head(config, self.fusion.widths, self.image.dims, self.video.flow_dims)
        self.person = build_person_detector(config)

    def forward(self, clip: Tensor, keys: Keys | None = None, boxes: Tensor | None = None) -> Predictions:
        """Detect in the key frames of clips, each seen from its true start.

        Args:
            clip: (B, 3, T, S, S) RGB, uint8 or float in 0..255, S = `config.key_size`, oldest frame first. Not modified.
            keys: (B, K) indices of the key frames, or a slice of the T, such as slice(None) for every frame; the last frame if None.
            boxes: (B * K, R, 4) to classify, in pixels of the input, instead of the strongest ones found.

        Returns:
            Predictions of B * K key frames.

        Raises:
            ValueError: for another shape.
        """
        return self.step(clip, self.initial_state(len(clip)), keys, boxes)[0]

    def step(
        self, clip: Tensor, state: State, keys: Keys | None = None, boxes: Tensor | None = None
    ) -> tuple[Predictions, State]:
        """Go on through B videos: as `forward`, for the T frames after those that `state` has seen.

        Args:
            clip: see `forward`.
            state: of `initial_state` or an earlier call. Not modified.
            keys: see `forward`.
            boxes: see `forward`.

        Returns:
            Predictions of B * K key frames, and the new state.
        """
        features, state = self.features(clip, state, keys)
        return self.head(features, boxes), state

    def people(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Look for everybody, whatever they do (ours: the paper finds actors alone).

        Args:
            frames: (B, 3, H, W) RGB, uint8 or float in 0..255, H and W multiples of 32, see `mssc.detection.preprocess`. Not modified.

        Returns:
            Boxes (B, N, 4) in pixels of these frames, one per cell, and their logits (B, N): is a person centred here?

        Raises:
            ValueError: without a detector of people, or for another shape.
        """
        if self.person is None:
            raise ValueError("this network has no detector of people.")
        if frames.ndim != 4 or frames.shape[1] != 3 or any(side % STRIDES[-1] for side in frames.shape[2:]):
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; they must be (B, 3, H, W), sides multiples of {STRIDES[-1]}."
            )
        return self.person(frames)

    def features(self, clip: Tensor, state: State, keys: Keys | None = None) -> tuple[Features, State]:
        """`step` without the head: what both paths see, and what fusion makes of it."""
        keys = self.keys(clip, keys)
        image = self.image(take(clip.transpose(1, 2), keys).flatten(0, 1))
        video, state = self.video(clip, state, keys)
        return Features(image, video, self.fusion(image, video)), state

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first frame of `batch` videos, a NamedTuple of the video path; `age` is how many frames it has seen."""
        return self.video.initial_state(batch)

    def keys(self, clip: Tensor, keys: Keys | None) -> Keys:
        """The key frames in a clip that the network can read; the last frame if None.

        Raises:
            ValueError: if the clip is not (B, 3, T, S, S) with T >= 1 and S = `config.key_size`.
        """
        size = self.config.key_size
        if clip.ndim != 5 or clip.shape[1] != 3 or clip.shape[2] < 1 or clip.shape[-2:] != (size, size):
            raise ValueError(f"clip has shape {tuple(clip.shape)}; it must be (B, 3, T, {size}, {size}) with T >= 1.")
        return slice(-1, None) if keys is None else keys
