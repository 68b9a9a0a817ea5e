"""Looking inside over the page's own functions, with tiny networks with and without the paper's modules."""

import base64
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from page_server import save_models, serve

from mssc.analysis import METRICS, Effect, Interval, Interventions, cell_kinds, moment, separability, store
from mssc.analysis.moment import Progress, lift, maps_of
from mssc.data import toy
from mssc.detection.people import Person
from mssc.detection.result import VideoResult
from mssc.model import shipped
from mssc.page import answers, inside, offer, visits
from mssc.structures import InputError
from mssc.video import probe


@pytest.fixture(scope="module")
def models(tiny_config, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), replace(tiny_config, key_size=96, clip_size=96))


@pytest.fixture(scope="module", autouse=True)
def offered(models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "available_models", lambda: {})
        patch.setattr(offer, "OWN", models)
        yield


@pytest.fixture(scope="module")
def seen(toy_videos):
    """What a perfect detector would have found: the true tubes."""
    clip = toy_videos.videos[0]
    times = [index / float(clip.rate) for index in range(clip.frames)]
    return VideoResult(probe(clip.path), tuple(toy.CLASSES), list(clip.tubes), [], times, {}, "big", 0.4)


def last(steps):
    *_, end = steps
    return end


@pytest.fixture(scope="module")
def found(seen):
    steps = list(inside.look(seen, ["big", "plain"], 0.2))
    assert all(isinstance(step, Progress) for step in steps[:-1])
    return steps[-1]


def test_two_models_are_looked_into_at_the_same_frame(found, seen):
    big, plain = found
    assert (big.kind, plain.kind) == ("with MSM, with SFM", "without MSM, without SFM (concat)")
    assert big.key.frame == plain.key.frame and big.key.gain is not None and plain.key.gain is None
    assert big.sense and not plain.sense and len(big.exchange) == 3 and plain.exchange == []
    told = inside.pictures(found, seen)
    json.dumps(told)
    first, second = told["models"]
    assert {"before", "after", "spatial takes", "motion takes", "fused"} <= set(first["maps"]) and "attention" not in first[
        "maps"
    ]
    assert second["verdict"].startswith("No MSM here") and second["channels"] is None
    assert first["gain"]["mean"] == pytest.approx(np.mean(first["channels"]), abs=1e-3)
    assert first["channels"] == sorted(first["channels"], reverse=True)
    assert "score of at least 0.4" in told["boxes_are"] and told["picture"].startswith("data:image/jpeg;base64,")


def test_maps_are_in_units_of_their_average_and_go_on_around_the_moment(found, seen):
    big = found[0]
    for name, response in maps_of(big.key).items():
        assert response.mean() == pytest.approx(1), name
    told = inside.pictures(found, seen)["models"][0]
    frames, _ = big.around
    sides = told["around"]["after"]["sides"]
    assert len(told["times"]) == len(frames) > 5 and big.key.frame in frames
    values = np.frombuffer(base64.b64decode(told["around"]["after"]["values"]), np.uint8).reshape(len(frames), *sides)
    share = values[frames.index(big.key.frame)] / 255 * told["around"]["after"]["most"]
    np.testing.assert_allclose(share.mean(), 1, atol=0.02)
    change = told["maps"]["change"]
    assert change["least"] == -change["most"] < 0
    between = np.frombuffer(base64.b64decode(change["values"]), np.uint8).reshape(change["sides"]) / 255
    maps = maps_of(big.key)
    np.testing.assert_allclose(
        change["least"] + between * 2 * change["most"], maps["after"] - maps["before"], atol=change["most"] / 200
    )
    assert "change" not in inside.pictures(found, seen)["models"][1]["maps"] or not found[1].sense


def test_the_verdict_follows_from_the_numbers(found):
    big, plain = found
    for after, said in (
        (1.32, "raises the distance inside the boxes by 10.0 %"),
        (1.14, "lowers the distance inside the boxes by 5.0 %"),
        (1.2, "does not change"),
    ):
        assert said in inside.verdict(big._replace(lifts={"before": 1.2, "after": after}))
    assert "cannot be told" in inside.verdict(big._replace(lifts={}))
    for after, said in ((0.9, "better: 0.800 to 0.900"), (0.75, "less well: 0.800 to 0.750"), (0.8, "as well as before: 0.800")):
        taps = {"MSM in": {"AUROC": 0.8}, "MSM out": {"AUROC": after}}
        assert f"told from background {said}" in inside.verdict(big._replace(distances=taps))
    assert "told from background" not in inside.verdict(big._replace(distances={}))
    before = [lift(key, maps_of(key)["before"]) for key in [big.key]]
    assert all(value is None or value > 0 for value in before) and set(big.lifts) == {"before", "after"}


def test_what_was_measured_of_the_model_is_told_too(found, seen, models, caplog):
    lost = Interval(-0.38, -0.43, -0.33, 134)
    row = Effect("motion into fusion", "another class", dict.fromkeys(METRICS, lost), dict.fromkeys(METRICS, lost))
    kept = store(models["plain"], Interventions("plain", "toy", 134, 500, 500, 4, 0, (row,)))
    try:
        said = [model["worth"] for model in inside.numbers(found, seen)["models"]]
        assert not said[0]
        assert (
            "other videos, of toy: in this model another class's motion costs 38 points of box accuracy [33, 43]. Box" in said[1]
        )
        kept.write_text("{")
        assert not inside.numbers(found, seen)["models"][1]["worth"]
        assert "interventions.json is cut off" in caplog.text
    finally:
        kept.unlink()


def test_what_sfm_exchanges_is_that_of_the_analysis(found):
    level = found[0].exchange[0]
    assert level["stride"] == 8 and all(0 <= value <= 1 for value in level["entropy"])
    assert set(level["change"]) == {"spatial_other", "spatial_zero", "motion_other", "motion_zero"}
    assert all(value >= 0 for value in level["change"].values()) and len(level["context"]) == 2


def test_distances_are_those_of_the_analysis(found):
    big, plain = found
    assert big.frames and set(big.distances["MSM in"]) >= set(moment.MEASURES)
    assert plain.distances["MSM in"] == plain.distances["MSM out"]
    key = big.key
    parts, values = [], []
    moment._gather(key, "MSM in", 2, parts, values)
    kinds = cell_kinds(key.boxes, key.taps["MSM in"].shape[:2], (key.size, key.size))
    x = key.taps["MSM in"].reshape(kinds.size, -1)
    assert values == [separability(x, (kinds == 1).ravel(), (kinds == 0).ravel())]
    features, action, labels, part, frames, places = parts[0]
    assert (
        set(part) == {"part 3"} and (labels[action] >= 0).all() and (labels[~action] == -1).all() and set(frames) == {key.frame}
    )
    column, row = (places[0, :2] * kinds.shape[::-1]).round().astype(int)
    assert kinds[row, column] == 1 and np.allclose(features[0], key.taps["MSM in"][row, column])


def test_the_nearest_moment_with_an_action_is_taken(seen):
    tube = seen.tubes[0]
    video, near, frame = moment.watched(seen, 1e9)
    assert frame == max(tube.stop for tube in seen.tubes) - 1 and frame in video.labelled
    video, near, frame = moment.watched(seen, seen.times[tube.start + 1])
    assert frame == tube.start + 1 and len(video.labelled) <= moment.KEY_FRAMES + 1 and frame in near.labelled


def test_where_no_action_is_sure_people_are_taken_and_without_them_the_way_out_is_said(seen):
    nobody = replace(seen, tubes=[])
    with pytest.raises(InputError, match="nobody was found in this video.*try another"):
        moment.watched(nobody, 0)
    somebody = replace(nobody, people=[Person(seen.tubes[0], [])])
    assert moment.watched(somebody, 0)[0].tubes == (seen.tubes[0],)
    dora = SimpleNamespace(session_hash="dora")

    def asked(**data):
        event = gr.EventData(None, {"key": "k", "job": "job", "models": ["big"], "moment": 0.0, "threshold": 0.5} | data)
        return next(answers.look_into(event, dora))["looked"]

    assert "first tab" in asked()["error"]
    visits.keep("dora", "job", [nobody])
    assert "first tab" in asked(job="another")["error"], "what was found in a video that is gone"
    assert "nobody was found" in asked()["error"] and "no model" in asked(models=["/etc"])["error"]
    for wrong in ({"moment": "soon"}, {"threshold": None}, {"models": "big"}):
        assert "reload the page" in asked(**wrong)["error"]


def test_a_small_actor_gives_maps_without_distances(seen):
    small = [type(tube)(tube.label, 0.5, tube.start, tube.boxes * 0 + [1, 1, 2, 2]) for tube in seen.tubes]
    (big,) = last(inside.look(replace(seen, tubes=small), ["big"], 0))
    told = inside.pictures([big], seen)["models"][0]
    assert not big.cells and told["points"] == {} and told["maps"] and not any(big.distances.values())


def test_nobody_elses_run_passes_the_hooks(seen, monkeypatch):
    shared = offer.ready("big")
    monkeypatch.setattr(shared, "graphs", threading.Lock())  # as a runtime's graphs, it cannot be copied
    for _ in inside.look(seen, ["big"], 0):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in shared.model.modules())


@pytest.mark.slow
def test_the_endpoint_gives_the_numbers(models, toy_videos, tmp_path):
    with serve(tmp_path, models) as address:
        client = Client(address, verbose=False, download_files=tmp_path / "downloads")
        told = client.predict(handle_file(toy_videos.videos[0].path), "big", 0.05, 0.1, "plain", api_name="/look_inside")
        named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        client.close()
    assert [model["model"] for model in told["models"]] == ["big", "plain"] and "nobody labelled" in told["boxes_are"]
    assert set(named) == {"/detect", "/models", "/look_inside"}
