"""Looking inside over the page's own functions, with tiny networks with and without the paper's modules."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import Client, handle_file
from page_server import save_models, serve

from mssc.analysis import separability
from mssc.data import toy
from mssc.model import shipped
from mssc.page import answers, inside, layout, offer, pictures, visits
from mssc.structures import InputError


@pytest.fixture(scope="module")
def models(tiny_config, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), replace(tiny_config, key_size=96, clip_size=96))


@pytest.fixture(autouse=True)
def offered(models, monkeypatch):
    monkeypatch.setattr(shipped, "available_models", lambda: {})
    monkeypatch.setattr(offer, "OWN", models)


@pytest.fixture(scope="module")
def clip(toy_videos):
    return toy_videos.videos[0]


@pytest.fixture
def seen(clip):
    """What a perfect detector would have found: the true tubes."""
    times = [index / float(clip.rate) for index in range(clip.frames)]
    size = (clip.width, clip.height)
    return inside.Seen(str(clip.path), "big", list(clip.tubes), [], tuple(toy.CLASSES), size, clip.rate, times, 0.4)


def last(steps):
    *_, end = steps
    return end


def test_two_models_are_looked_into_side_by_side(seen):
    steps = list(inside.look(seen, ["big", "plain"], 0.2))
    assert all(isinstance(step, str) for step in steps[:-1])
    big, plain = steps[-1]
    assert (big.kind, plain.kind) == ("with MSM, with SFM", "without MSM, without SFM (concat)")
    assert big.key.frame == plain.key.frame and big.key.gain is not None and plain.key.gain is None
    assert {"SFM: the spatial path takes", "After fusion"} <= set(inside.responses(big.key))
    assert {"Spatial path", "Motion path"} <= set(inside.responses(plain.key))
    page = inside.page_of([big, plain], seen)
    assert page.count("<section>") == 2 and "Nobody labelled your video" in page and "score of at least 0.40" in page
    assert page.count('<img src="data:image/jpeg;base64,') == sum(1 + len(inside.responses(one.key)) for one in (big, plain))
    assert "no gain per channel" in page and "MSM's gain:" in page
    told = inside.numbers([big, plain], seen)
    json.dumps(told)
    assert [model["model"] for model in told["models"]] == ["big", "plain"]
    assert told["models"][0]["gain"]["mean"] == pytest.approx(float(big.key.gain.mean()))


def test_without_msm_before_and_after_are_the_same(seen):
    (plain,) = last(inside.look(seen, ["plain"], 0))
    if plain.distances["MSM in"]:
        assert plain.distances["MSM in"] == plain.distances["MSM out"]


def test_distances_are_those_of_the_analysis(seen):
    (big,) = last(inside.look(seen, ["big", "big"], 0))
    assert big.frames and set(big.distances["MSM in"]) >= set(inside.MEASURES)
    key = big.key
    parts, values = [], []
    inside._gather(key, "MSM in", 2, parts, values)
    kinds = inside.cell_kinds(key.boxes, key.taps["MSM in"].shape[:2], (key.size, key.size))
    x = key.taps["MSM in"].reshape(kinds.size, -1)
    assert values == [separability(x, (kinds == 1).ravel(), (kinds == 0).ravel())]
    features, action, labels, part, frames, places = parts[0]
    assert (
        set(part) == {"part 3"} and (labels[action] >= 0).all() and (labels[~action] == -1).all() and set(frames) == {key.frame}
    )
    column, row = (places[0, :2] * kinds.shape[::-1]).round().astype(int)
    assert kinds[row, column] == 1 and np.allclose(features[0], key.taps["MSM in"][row, column])
    assert inside.embedding_of([big], seen) is not None


def test_the_nearest_moment_with_an_action_is_taken(seen):
    tube = seen.tubes[0]
    video, frame = inside.annotated(seen, 1e9)
    assert frame == max(tube.stop for tube in seen.tubes) - 1 and frame in video.labelled
    video, frame = inside.annotated(seen, seen.times[tube.start + 1])
    assert frame == tube.start + 1 and len(video.labelled) <= inside.KEY_FRAMES + 1


def test_without_a_tube_the_way_out_is_said(seen):
    with pytest.raises(InputError, match="no action was found at threshold 0.40.*lower the threshold"):
        next(inside.look(seen._replace(tubes=[]), ["big"], 0))
    visitor = SimpleNamespace(session_hash="dora")
    assert "first tab" in next(answers.look_into("big", "", 0.0, visitor))[0]
    visits.keep("dora", [seen._replace(tubes=[])])
    said = next(answers.look_into("big", "", 0.0, visitor))
    assert "lower the threshold" in said[0] and said[2] is None


def test_a_small_actor_gives_pictures_without_an_embedding(seen):
    small = [type(tube)(tube.label, 0.5, tube.start, tube.boxes * 0 + [1, 1, 2, 2]) for tube in seen.tubes]
    (big,) = last(inside.look(seen._replace(tubes=small), ["big"], 0))
    assert not big.projections and inside.embedding_of([big], seen) is None
    assert "too small for its maps" in inside.page_of([big], seen)


def test_nobody_elses_run_passes_the_hooks(seen):
    shared = offer.ready("big")
    for _ in inside.look(seen, ["big"], 0):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in shared.model.modules())


def test_the_second_model_knows_the_same_actions(seen):
    visits.keep("emil", [seen])
    slider, first, second = layout._moments(SimpleNamespace(session_hash="emil"))
    assert (first, second) == ("big", "plain") and slider.maximum == round(seen.times[-1], 2)
    assert layout._moments(SimpleNamespace(session_hash="carl"))[1:] != ("big", "plain")


def test_bars_stand_for_gains():
    drawn = pictures.gain_bars(np.array([1.5, 0.75, 1.0, 1.1]))
    assert "50 % of 4 channels are above 1, the mean is 1.09" in drawn and "from 1.50 to 0.75" in drawn
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', drawn)]
    assert heights == [45.0, 9.0, 0.5, 22.5]


def test_the_endpoint_gives_the_numbers(models, clip, tmp_path):
    with serve(tmp_path, models) as address:
        client = Client(address, verbose=False, download_files=tmp_path / "downloads")
        told = client.predict(handle_file(clip.path), "big", 0.05, 0.1, "plain", api_name="/look_inside")
        named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        client.close()
    assert [model["model"] for model in told["models"]] == ["big", "plain"] and "nobody labelled" in told["boxes_are"]
    assert set(named) == {"/detect", "/models", "/look_inside"}
