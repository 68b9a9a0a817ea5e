"""The shipped models give what they gave when the reference was written: structure may change, numbers may not."""

import json

import numpy as np
import pytest
import reference


@pytest.fixture(scope="module")
def wanted():
    with np.load(reference.FILE) as file:
        return dict(file)


@pytest.mark.parametrize("name", reference.MODELS)
def test_predictions_are_those_of_the_reference(name, wanted):
    for key, value in reference.predictions(name).items():
        there = wanted[f"{name}/{key}"]
        error = np.abs(value - there) / np.maximum(np.abs(there), 200 if "boxes" in key else 1)  # boxes have pixels of 224
        assert value.shape == there.shape and error.max() < 1e-5 * (10 if "logits" in key else 1), (key, error.max())


@pytest.mark.parametrize("name", reference.MODELS)
def test_detections_and_tubes_are_those_of_the_reference(name, wanted):
    rows, lines = reference.tubes(name)
    for key, value in rows.items():
        np.testing.assert_allclose(value, wanted[f"{name}/{key}"], atol=1e-2, rtol=1e-4)
    there = json.loads(str(wanted[f"{name}/tubes"]))
    assert len(lines) == len(there)
    np.testing.assert_allclose(np.array(lines), np.array(there), atol=2e-2)
