"""The pictures show the numbers they are given."""

import numpy as np
import pytest

from mssc.scoring.charts import alarm_chart, class_chart, confusion_chart, error_chart, png
from mssc.structures import InputError

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


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(InputError, match="2 average precisions for 3"):
        class_chart([0.1, 0.2], [1, 2, 3], CLASSES)
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        confusion_chart(np.zeros((3, 3), int), CLASSES)
    with pytest.raises(InputError, match="alarm rates"):
        alarm_chart([0.1], [1, 2], 0.5)
