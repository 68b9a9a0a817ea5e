"""What passes between the parts: one key frame's share of it."""

import torch
from conftest import TINY

from mssc.model.mssc import MSSC


def test_the_features_of_one_key_frame_are_all_that_its_head_needs():
    torch.manual_seed(0)
    model = MSSC(TINY).eval()
    clip = torch.randint(0, 256, (1, 3, 5, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features, _ = model.features(clip, model.initial_state(), torch.tensor([[0, 2, 4]]))
        together = model.head(features)
        for row in range(3):
            one = features.key_frame(row)
            assert one.video.motion is features.video.motion and len(one.video.map) == len(one.fused[0]) == 1
            for got, wanted in zip(model.head(one), together, strict=True):
                assert torch.allclose(got[0], wanted[row], atol=1e-4)
    assert not torch.allclose(together.logits[0], together.logits[2], atol=1e-4)
