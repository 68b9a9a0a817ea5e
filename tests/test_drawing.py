"""Drawing: colours, places and numbers, checked in the pixels."""

import numpy as np
import pytest

from mssc.structures import Detections, InputError
from mssc.video import drawing

CLASSES = ("stand", "wave", "brush hair")


def plain(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def has(image: np.ndarray, colour: tuple) -> np.ndarray:
    """(H, W) bool: where the image has exactly this colour."""
    return (image == np.array(colour, np.uint8)).all(-1)


# --- colours


def test_a_colour_depends_on_the_class_index_alone():
    eighty = drawing.class_colours([str(i) for i in range(80)])
    assert len(set(eighty)) == 80
    for count in (1, 5, 21, 24):
        assert drawing.class_colours(["x"] * count) == eighty[:count]


def test_colours_stay_apart_for_every_kind_of_viewer():
    seen = drawing._seen(np.array(drawing.class_colours(["x"] * 21)))
    distance = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)  # (viewer, colour, colour), Oklab
    distance[:, np.arange(21), np.arange(21)] = 1
    assert distance.min() > 0.055  # 0.02 is about one just noticeable difference
    assert distance[0].min() > 0.1  # without colour blindness
    grey = drawing._seen(np.array([drawing.GREY]))
    assert np.linalg.norm(seen[0] - grey[0], axis=-1).min() > 0.1, "nor is any taken for somebody who does nothing sure"


def test_colour_blind_views_keep_grey_and_confuse_what_they_should():
    grey = drawing._seen(np.array([[128, 128, 128]]))
    np.testing.assert_allclose(grey, np.broadcast_to(grey[:1], grey.shape), atol=1e-3)
    red_green = drawing._seen(np.array([[200, 80, 0], [115, 120, 0]]))
    apart = np.linalg.norm(red_green[:, 0] - red_green[:, 1], axis=-1)
    assert apart[2] < apart[0] / 2  # deuteranopia


def test_labels_contrast_with_their_background():
    for colour in drawing.class_colours(["x"] * 80):
        pair = np.array([colour, drawing.ink(colour)])
        dark, light = sorted(drawing._linear(pair) @ (0.2126, 0.7152, 0.0722))
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, AA


# --- boxes


def test_draw_puts_a_box_of_the_class_colour_on_a_copy():
    image = plain()
    drawn = drawing.draw(image, Detections([[100, 80, 200, 180]], [1], [0.8]), CLASSES)
    colour = drawing.class_colours(CLASSES)[1]
    assert (image == 90).all() and drawn.flags.writeable and drawn.shape == image.shape and drawn.dtype == np.uint8
    box = has(drawn, colour)
    assert box[80, 100:200].all() and box[179, 100:200].all() and box[80:180, 100].all() and box[80:180, 199].all()
    assert (drawn[84:176, 104:196] == 90).all()  # hollow
    assert (
        (drawn[180:] == 90).all() and (drawn[:, 200:] == 90).all() and (drawn[:, :100] == 90).all()
    )  # continuous: x2 is excluded
    assert has(drawn, colour)[:80, 100:].any() and (drawn[:60] == 90).all()  # the label sits on the box


def test_people_without_a_sure_action_get_a_thin_grey_box_under_the_others():
    acting = Detections([[20, 60, 120, 200]], [1], [0.8])
    drawn = drawing.draw(plain(480, 640), acting, CLASSES, people=np.array([[300.0, 60, 400, 200], [-50, -50, -9, -9]]))
    grey, colour = has(drawn, drawing.GREY), has(drawn, drawing.class_colours(CLASSES)[1])
    assert np.flatnonzero(grey[130]).tolist() == [301, 398] and has(drawn, (0, 0, 0))[130, 300], "thin, with a dark rim"
    assert colour[130, 20:22].all() and not grey[:, :200].any(0)[60:].any()
    assert grey[40:59, 300:].sum() > 200, "a label above it"
    crowd = np.array([[50.0 * n, 60, 50 * n + 30, 200] for n in range(drawing.CROWD + 1)])
    assert not has(drawing.draw(plain(480, 640), acting, CLASSES, people=crowd), drawing.GREY)[:59].any(), (
        "labels would hide them"
    )
    same = drawing.draw(
        plain(480, 640), Detections([[300, 60, 400, 200]], [1], [0.8]), CLASSES, people=np.array([[300.0, 60, 400, 200]])
    )
    assert not has(same, drawing.GREY)[130].any(), "an action's box lies on top"


def test_draw_without_detections_is_a_copy():
    image = plain()
    drawn = drawing.draw(image, Detections.empty(), CLASSES)
    assert np.array_equal(drawn, image) and not np.shares_memory(drawn, image)


def test_actions_of_one_box_are_stacked_best_first():
    detections = Detections([[100, 100, 200, 200]] * 2, [1, 0], [0.3, 0.9])
    drawn = drawing.draw(plain(), detections, CLASSES)
    stand, wave, _ = drawing.class_colours(CLASSES)
    assert has(drawn, stand)[100, 100:200].all()  # the box has the best action's colour
    tops = [np.flatnonzero(has(drawn, colour)[:100].any(1)) for colour in (stand, wave)]
    assert tops[0].min() < tops[0].max() < tops[1].min() < tops[1].max() < 100
    assert tops[1].min() == tops[0].max() + 1  # no gap


def test_rows_of_one_actor_share_a_box_even_if_theirs_differ_a_little():
    detections = Detections([[100, 100, 200, 200], [104, 104, 204, 204]], [0, 1], [0.9, 0.3])
    wave = drawing.class_colours(CLASSES)[1]
    assert has(drawing.draw(plain(), detections, CLASSES), wave)[203, 104:204].all()
    one = drawing.draw(plain(), detections, CLASSES, actors=[1, 1])
    assert not has(one, wave)[100:].any() and has(one, wave)[:100].any()


def test_labels_stay_in_the_frame_and_off_each_other():
    rng = np.random.default_rng(0)
    for _ in range(300):
        corner = rng.uniform((-50, -50), (340, 260))
        box = np.concatenate([corner, corner + rng.uniform(0, 120, 2)])
        x, y = drawing._place(box, 80, 18, (320, 240), [])
        assert 0 <= x <= 240 and 0 <= y <= 222
    taken = []
    for _ in range(3):  # above, inside at the top, inside at the bottom
        x, y = drawing._place(np.array([50, 60, 200, 200]), 80, 18, (320, 240), taken)
        taken.append((x, y, x + 80, y + 18))
    assert [spot[1] for spot in taken] == [42, 60, 182]


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 200), (2160, 3840)])
@pytest.mark.parametrize("box", [(0, 0, 4, 4), (-90, -90, -50, -50), (5000, 0, 6000, 10), (2, 2, 2, 2), (-1e6, -1e6, 1e6, 1e6)])
def test_draw_survives_any_size_and_any_box(size, box):
    drawn = drawing.draw(plain(*size), Detections([box], [2], [1.0]), CLASSES)
    assert drawn.shape == (*size, 3)


def test_lines_and_letters_grow_with_the_frame():
    heights = []
    for scale in (1, 4):
        image = plain(240 * scale, 320 * scale)
        drawn = drawing.draw(image, Detections([np.array([50, 100, 250, 200]) * scale], [0], [0.5]), CLASSES)
        changed = (drawn != 90).any(-1)
        heights.append((changed[: 100 * scale].any(1).sum(), changed[150 * scale, : 150 * scale].sum()))
    assert heights[1][0] > 2 * heights[0][0] and heights[1][1] > heights[0][1] >= 2


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        (plain().astype(np.float32), 0, "float32"),
        (plain()[..., 0], 0, r"\(240, 320\)"),
        (plain(), 3, "label 3 has no name: there are 3"),
    ],
)
def test_draw_refuses_what_it_cannot_draw(image, label, words):
    with pytest.raises(InputError, match=words):
        drawing.draw(image, Detections([[0, 0, 9, 9]], [label], [0.5]), CLASSES)
