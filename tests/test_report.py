"""The pictures show the numbers they are given."""

import numpy as np

from mssc.scoring.report import alarm_chart, class_chart, confusion_chart, error_chart, markdown, png

CLASSES = ("run", "shoot ball", "sit")


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


def test_classes_come_best_first_and_those_without_truth_last():
    axes = class_chart([0.25, float("nan"), 0.75], [5, 0, 7], CLASSES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sit (7)", "run (5)", "shoot ball (0)"]
    assert widths(axes) == [75, 25, 0]
    assert "no ground truth" in [text.get_text() for text in axes.texts]


def test_confusion_is_in_shares_of_rows():
    table = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [5, 0, 0, 0]])
    axes = confusion_chart(table, CLASSES).axes[0]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, [[0.75, 0.25, 0, 0], [0, 0, 0, 0], [0, 0, 0.5, 0.5], [1, 0, 0, 0]])
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "missed"
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "2", "3", "5"]


def test_errors_and_alarms():
    left, right = error_chart({"right": 4, "class": 2}, {"class": 0.1}).axes
    assert widths(left) == [4, 2] and widths(right) == [10]
    assert left.patches[1].get_facecolor() == right.patches[0].get_facecolor()  # one kind, one colour
    axes = alarm_chart([0.1, 0.5], [3.0, 1.0], 0.3).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [3, 1] and axes.lines[1].get_xdata()[0] == 0.3


def test_pictures_are_files_and_many_classes_fit():
    figure = class_chart([0.5] * 80, [1] * 80, [f"c{i}" for i in range(80)])
    assert png(figure).startswith(b"\x89PNG") and figure.get_size_inches()[1] > 15
    assert png(confusion_chart(np.zeros((81, 81), int), [f"c{i}" for i in range(80)])).startswith(b"\x89PNG")


def test_a_table_keeps_its_form_whatever_stands_in_it():
    record = {
        "dataset": "a set",
        "frame-mAP@0.5 (voc)": 0.5,
        "video-mAP@0.5": None,
        "frames": 10,
        "false alarms": {"alarms": 3, "per minute": 0.25},
        "versions": {"numpy": "2"},
        "per class": {"a|b": {"boxes": 4, "frame-AP@0.5": float("nan")}, "sit": {"boxes": 0, "frame-AP@0.5": 1 / 3}},
        "command": "mssc evaluate a|b",
    }
    assert markdown(record).splitlines() == [
        "# Detections on a set",
        "",
        "| score | % |",
        "|---|---|",
        "| frame-mAP@0.5 (voc) | 50.00 |",
        "| video-mAP@0.5 | – |",
        "",
        "| | |",
        "|---|---|",
        "| dataset | a set |",
        "| frames | 10 |",
        "| false alarms, alarms | 3 |",
        "| false alarms, per minute | 0.25 |",
        "| numpy version | 2 |",
        "| command | mssc evaluate a\\|b |",
        "",
        "| class | boxes | frame-AP@0.5 |",
        "|---|---|---|",
        "| a\\|b | 4 | – |",
        "| sit | 0 | 33.33 |",
    ]
