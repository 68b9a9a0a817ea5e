"""The shipped models give what they gave when the reference was written: structure may change, numbers may not."""

import numpy as np
import pytest
import reference

from mssc import load_model


@pytest.fixture(scope="module")
def wanted():
    with np.load(reference.FILE) as file:
        return dict(file)


@pytest.mark.parametrize("form", [reference.predictions, reference.streamed])
@pytest.mark.parametrize("name", reference.MODELS)
def test_predictions_are_those_of_the_reference(name, form, wanted):
    for key, value in form(reference.double(name)).items():
        np.testing.assert_allclose(value, wanted[f"{name}/{key}"], atol=1e-7, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", reference.MODELS)
def test_single_precision_only_rounds(name, wanted):
    for key, value in reference.predictions(load_model(name)).items():
        # pixels, and logits; of people each cell counts, however wide its box and however sure that it is empty
        most = {"people": 2e-2, "person": 1e-3}.get(key, 5e-3 if "boxes" in key else 2e-4)
        np.testing.assert_allclose(value, wanted[f"{name}/{key}"], atol=most, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", reference.MODELS)
def test_detections_and_tubes_are_those_of_the_reference(name, wanted):
    found = reference.video(reference.double(name))
    assert len(found["detections"]) and len(found["tubes"])
    for key, value in found.items():  # detections are kept in single precision: one unit in the last place
        np.testing.assert_allclose(value, wanted[f"{name}/{key}"], atol=1e-6, rtol=1e-6, err_msg=key)
