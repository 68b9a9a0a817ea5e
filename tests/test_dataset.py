from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mssc.data import Dataset, Video
from mssc.structures import InputError, Tube

BOX = [1.0, 2.0, 30.0, 40.0]


def video(name: str = "a", tubes: tuple = (), frames: int = 10) -> Video:
    return Video(name, Path(name), frames, 64, 48, Fraction(25), tubes)


def test_boxes_at_first_last_and_outside_frames():
    first = Tube(1, 1.0, 2, np.array([BOX] * 3) + np.arange(3)[:, None])
    second = Tube(0, 1.0, 4, [BOX])
    v = video(tubes=(first, second))
    for frame, rows in {1: 0, 2: 1, 4: 2, 5: 0, 9: 0}.items():
        boxes, labels = v.boxes_at(frame)
        assert boxes.shape == (rows, 4) and boxes.dtype == np.float32
        assert labels.shape == (rows,) and labels.dtype == np.int64
    boxes, labels = v.boxes_at(4)
    np.testing.assert_array_equal(boxes, [np.array(BOX) + 2, BOX])
    assert labels.tolist() == [1, 0]


def test_boxes_are_copies():
    v = video(tubes=(Tube(0, 1.0, 0, [BOX]),))
    v.boxes_at(0)[0][:] = 0
    np.testing.assert_array_equal(v.boxes_at(0)[0], [BOX])


def test_subset_keeps_the_order_asked_for():
    data = Dataset("d", ("x",), (video("a"), video("b"), video("c")))
    part = data.subset(["c", "a"])
    assert [v.name for v in part.videos] == ["c", "a"] and len(part) == 2 and part.classes == ("x",)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dataset("d", ("x",), ()), "no video"),
        (lambda: Dataset("d", (), (video(),)), "no class"),
        (lambda: Dataset("d", ("x", "x"), (video(),)), "class 'x' more than once"),
        (lambda: Dataset("d", ("x",), (video("a"), video("a"))), "video 'a' more than once"),
        (lambda: Dataset("d", ("x",), (video("a", (Tube(1, 1.0, 0, [BOX]),)),)), "'a' has the label 1"),
        (lambda: video("a", (Tube(0, 1.0, 9, [BOX, BOX]),)), "'a' has 10 frames, but a tube goes on to frame 10"),
        (lambda: video("a", frames=0), "0 frames"),
        (lambda: Dataset("d", ("x",), (video("a"),)).subset(["a", "z"]), "no video 'z'"),
        (lambda: Dataset("d", ("x",), (video("a"),)).subset(["a", "a"]), "more than once"),
        (lambda: Dataset("d", ("x",), (video("a"),)).subset([]), "no video"),
    ],
)
def test_refuses(make, says):
    with pytest.raises(InputError, match=says):
        make()
