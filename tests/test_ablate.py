"""Ablations: rows see the same data, runs are kept and gone on with, scores are those of `evaluate`, intervals are paired."""

import copy
import dataclasses
import json
import os
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import tyro

from mssc import evaluate
from mssc.__main__ import main
from mssc.ablate.results import METRICS, load_results
from mssc.ablate.runs import Plan, ablate, finish, read_record
from mssc.ablate.scores import look, score_model
from mssc.ablate.sharing import CONTROL, PIPES, side_by_side
from mssc.ablate.studies import CONDITIONS, conditions_of, partners, replaced, score_noise, score_paths
from mssc.ablate.tables import ABLATIONS, REFERENCES
from mssc.analysis import robustness
from mssc.analysis.bootstrap import resamples
from mssc.analysis.corruption import CORRUPTIONS
from mssc.commands.ablate import Ablate
from mssc.commands.options import CONFIG
from mssc.config import ModelConfig, TrainConfig
from mssc.data.dataset import Dataset
from mssc.detection.detector import Detector
from mssc.evaluate import Truth
from mssc.model.checkpoint import load_model
from mssc.model.image import NoImage
from mssc.model.mssc import MSSC
from mssc.model.video import NoVideo
from mssc.plots import ablation_markdown, ablation_plot, ablation_rows, studies_markdown
from mssc.scoring.run import detect_frames, known_of
from mssc.structures import Detections, InputError, Tube
from mssc.training.loop import Trainer
from mssc.training.recipes import Stage

SHORT = TrainConfig(epochs=1, batch=2, clip_length=4, keys=2, workers=0, warmup=0.2)
FEW = {name: replace(CORRUPTIONS[name], amounts=CORRUPTIONS[name].amounts[-1:]) for name in ("blur", "frozen")}
TWO = {"2D only": ABLATIONS["T-A"]["2D only"], "MS-SC": {}}


@pytest.fixture
def plan(tmp_path, toy_videos, toy_cache, tiny_config):
    return Plan(tmp_path / "ablation", tiny_config, SHORT, toy_videos, toy_videos, toy_cache, rounds=20)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, toy_videos, toy_cache, tiny_config):
    """Two rows with two seeds, and both studies."""
    folder = tmp_path_factory.mktemp("finished")
    studies = ("paths", "noise")
    plan = Plan(folder, tiny_config, SHORT, toy_videos, toy_videos, toy_cache, studies=studies, noise_step=9, rounds=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mssc.analysis.corruption.CORRUPTIONS", FEW)
        before = torch.get_num_threads()
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # as in one of two processes: sums round alike
        try:
            return ablate(plan, TWO, (0, 1), "T-A", "2D only", progress=False), plan
        finally:
            torch.set_num_threads(before)


def sharp(model: MSSC) -> MSSC:
    """Random weights that say something: objectness of many cells above one half, classes apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for conv in model.head.boxes.obj_preds:
            conv.weight.normal_(0, 3)
            conv.bias.zero_()
        model.head.classifier.branch.logits.weight.normal_(0, 3)
    return model.eval()


# -------------------------------------------------------------------- rows


def test_tables_have_their_references_and_begin_with_the_control():
    assert REFERENCES.keys() == ABLATIONS.keys() and all(REFERENCES[table] in rows for table, rows in ABLATIONS.items())
    first, second = list(ABLATIONS["T-A"].values())[:2]
    assert first["paths"] == "key" and second["paths"] == "clip" and "classifier" not in first


@pytest.mark.parametrize("row", ABLATIONS["T-A"])
def test_what_the_rows_of_t_a_are_made_of(row, tiny_config):
    model = MSSC(replace(tiny_config, **ABLATIONS["T-A"][row]))
    flow = row != "2D only" and "no flow" not in row
    assert isinstance(model.image, NoImage) == row.startswith("3D only") and isinstance(model.video, NoVideo) == (
        row == "2D only"
    )
    assert flow == bool(model.video.flow_dims)
    if model.video.backbone is not None:
        assert (model.video.backbone.flow is not None) == flow and bool(model.video.backbone.flow_dims) == flow
    assert (type(model.video.motion).__name__ == "MotionSense") == ("MSM" in row or "MS-SC" in row)
    assert (type(model.fusion.levels[0]).__name__ == "SemanticCorrectionFusion") == ("SFM" in row or "MS-SC" in row)


def test_without_flow_the_network_is_the_same_but_for_the_stream(tiny_config):
    whole, rgb = (MSSC(replace(tiny_config, backbone3d=f"causal_cspdarknet_nano{tail}")).state_dict() for tail in ("", "_rgb"))
    assert set(rgb) < set(whole)
    assert all(name.startswith("video.backbone.flow.") for name in set(whole) - set(rgb))
    assert [name for name in rgb if rgb[name].shape != whole[name].shape] == ["video.before.weight"]  # from all channels to fewer


@pytest.mark.parametrize("chunk", [1, 3])
def test_without_flow_a_stream_is_its_clip(tiny_config, chunk):
    model = sharp(MSSC(replace(tiny_config, backbone3d="causal_cspdarknet_nano_rgb")))
    clip = torch.randint(0, 256, (1, 3, 7, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        whole = model(clip, torch.arange(7)[None])
    state, parts = model.initial_state(), []
    for part in clip.split(chunk, 2):
        with torch.inference_mode():
            said, state = model.step(part, state, torch.arange(part.shape[2])[None])
        parts.append(said)
    assert torch.allclose(torch.cat([part.logits for part in parts]), whole.logits, atol=1e-4)
    assert not torch.allclose(whole.logits[1:], whole.logits[:-1], atol=1e-2)


ROWS = [(table, row) for table in ABLATIONS for row in ABLATIONS[table]]


def shown(folder, toy_videos, toy_cache, config, train):
    """What each step of a run feeds its network: clips, key frames, boxes to judge."""
    trainer, seen = Trainer(config, train, folder, toy_videos, toy_cache, progress=False), []

    def keep(_module, arguments):
        clip, keys, asked = arguments
        seen.append([clip.clone(), keys.clone(), asked.rois.clone()])

    trainer.learner.register_forward_pre_hook(keep)
    trainer.run()
    return seen


def test_a_seed_shows_every_row_the_same_clips(tmp_path, toy_videos, toy_cache, tiny_config):
    train = replace(SHORT, mixup=0.8, seed=3)
    first = shown(tmp_path / "first", toy_videos, toy_cache, tiny_config, train)
    assert len(first) == 3
    for table, row in ROWS[:: max(len(ROWS) // 6, 1)]:
        config = replace(tiny_config, **ABLATIONS[table][row])
        other = shown(tmp_path / f"{table} {row.replace('/', '-')}", toy_videos, toy_cache, config, train)
        assert all(torch.equal(a, b) for one, two in zip(first, other, strict=True) for a, b in zip(one, two, strict=True)), row
    another = shown(tmp_path / "seed", toy_videos, toy_cache, tiny_config, replace(train, seed=4))
    assert not torch.equal(first[0][0].float(), another[0][0].float())


# -------------------------------------------------------------------- scores


def random_detections(dataset: Dataset, seed: int) -> dict[str, list[Detections]]:
    """True boxes, shaken, some with a wrong class, and some from nowhere."""
    rng, found = np.random.default_rng(seed), {}
    for video in dataset.videos:
        frames = []
        for frame in range(video.frames):
            boxes, labels = video.boxes_at(frame)
            shaken = np.sort((boxes + rng.normal(0, 2, boxes.shape)).reshape(-1, 2, 2), 1).reshape(-1, 4)
            strange = np.sort(rng.uniform(0, 40, (2, 2, 2)), 1).reshape(-1, 4)
            labels = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(0, 6, len(labels)))
            every = np.concatenate([labels, rng.integers(0, 6, 2)])
            frames.append(Detections(np.concatenate([shaken, strange]), every, rng.random(len(every))))
        found[video.name] = frames
    return found


def random_tubes(dataset: Dataset, seed: int) -> dict[str, list[Tube]]:
    """True tubes, shaken and cut, twice each, some with a wrong class."""
    rng, found = np.random.default_rng(seed), {}
    for video in dataset.videos:
        found[video.name] = []
        for tube in (*video.tubes, *video.tubes):
            cut = int(rng.integers(0, len(tube) // 2))
            label = tube.label if rng.random() < 0.7 else int(rng.integers(0, 6))
            boxes = tube.boxes[cut:] + rng.normal(0, 1.5, 2)[[0, 1, 0, 1]]
            found[video.name].append(Tube(label, float(rng.random()), tube.start + cut, boxes))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_scores_and_resamples_are_those_of_evaluate(toy_videos, seed):
    own = random_detections(toy_videos, seed)
    truth, classes = known_of(toy_videos).truth, len(toy_videos.classes)
    tubes = random_tubes(toy_videos, seed)
    boxes, actors = evaluate.frame_hits(own, truth, classes), evaluate.frame_hits(own, truth, None)
    (whole,) = evaluate.tube_hits(tubes, truth, classes)
    assert whole.right.any() and not whole.right.all()
    names = list(truth)
    for times in [np.ones(len(names), int), *resamples(len(names), 8, seed)]:
        copies = [(f"{name} {copy}", name) for name, count in zip(names, times, strict=True) for copy in range(count)]
        again = {copy: Truth(truth[name].tubes, truth[name].frames) for copy, name in copies}
        repeated = {copy: own[name] for copy, name in copies}
        assert boxes.score(times).map == pytest.approx(evaluate.frame_map(repeated, again, classes).map, abs=1e-9)
        assert actors.score(times).map == pytest.approx(evaluate.actor_ap(repeated, again), abs=1e-9)
        repeated_tubes = {copy: tubes[name] for copy, name in copies}
        assert whole.score(times).map == pytest.approx(evaluate.video_map(repeated_tubes, again, classes).map, abs=1e-9)


def test_resamples_draw_as_many_videos_as_there_are():
    times = resamples(7, 50)
    assert times.shape == (50, 7) and (times.sum(1) == 7).all() and (times == resamples(7, 50)).all() and times.std() > 0


def test_a_video_is_looked_at_as_evaluate_does(toy_videos, toy_cache, tiny_config):
    detector = Detector(sharp(MSSC(tiny_config)))
    for video in toy_videos.videos[:3]:
        found, right, count = look(detector, video, toy_cache)
        for one, other in zip(found, detect_frames(detector, video), strict=True):
            assert np.array_equal(one.labels, other.labels) and np.allclose(one.boxes, other.boxes, atol=0.05)
            assert np.allclose(one.scores, other.scores, atol=1e-4)
        images = detector.prepare(toy_cache.frames(video.name, range(video.frames)))
        wanted = hits = 0
        for frame in range(video.frames):  # one frame, one box at a time, from the whole video as one clip
            for box, label in zip(*video.boxes_at(frame), strict=True):
                box = torch.tensor(box * np.array([64 / video.width, 64 / video.height] * 2, np.float32)).reshape(1, 1, 4)
                with torch.inference_mode():
                    logits = detector.model(images.transpose(0, 1)[None], torch.tensor([[frame]]), box).logits
                hits, wanted = hits + int(logits[0, 0].argmax() == label), wanted + 1
        assert (right, count) == (hits, wanted) and wanted > 0


def test_every_metric_is_there_and_box_accuracy_is_a_share(toy_videos, toy_cache, tiny_config):
    scored = score_model(Detector(sharp(MSSC(tiny_config))), toy_videos, toy_cache, rounds=10)
    assert tuple(scored.scores) == METRICS == tuple(scored.draws)
    assert scored.scores["box accuracy"] == pytest.approx(sum(scored.right) / sum(scored.boxes))
    times = resamples(len(toy_videos), 10)
    wanted = [(row @ np.array(scored.right)) / (row @ np.array(scored.boxes)) for row in times]
    assert scored.draws["box accuracy"] == pytest.approx(np.array(wanted))
    assert all(draws.shape == (10,) for draws in scored.draws.values())


def test_what_cannot_be_scored_is_refused(toy_videos, toy_cache, tiny_config):
    detector = Detector(MSSC(tiny_config).eval())
    empty = replace(toy_videos, videos=tuple(replace(video, tubes=()) for video in toy_videos.videos))
    with pytest.raises(InputError, match="none of the 6 videos"):
        score_model(detector, empty, toy_cache)
    some = replace(toy_videos, videos=(replace(toy_videos.videos[0], labelled=(0,)), *toy_videos.videos[1:]))
    with pytest.raises(InputError, match="annotated in some frames only"):
        score_model(detector, some, toy_cache)


# -------------------------------------------------------------------- studies


def _differ(x: torch.Tensor, y: torch.Tensor) -> bool:
    return not torch.equal(x, y)


def test_a_path_says_something_else_within_the_block_only(toy_videos, toy_cache, tiny_config):
    model, video = sharp(MSSC(tiny_config)), toy_videos.videos[0]
    images = Detector(model).prepare(toy_cache.frames(video.name, range(video.frames)))
    strange = images.flip(0)

    def features(condition=None, other=strange):
        """The image path's levels, the 3D network's map, and all that follows from them."""
        clip, keys, maps = images.transpose(0, 1)[None], torch.arange(len(images))[None], []
        before = model.video.before.register_forward_pre_hook(lambda _, args: maps.append(args[0].clone()))
        with torch.inference_mode(), replaced(model, condition, other) if condition else nullcontext():
            found = model.features(clip, model.initial_state(), keys)[0]
        before.remove()
        return found.image.levels, maps[0], found

    key_before, clip_before, before = features()
    for condition in CONDITIONS:
        key, clip, found = features(condition)
        changed = any(map(_differ, key, key_before)), _differ(clip, clip_before)
        assert changed == (condition.startswith("2D"), not condition.startswith("2D")), condition
        if condition == "2D zero":
            assert not any(level.any() for level in key)
        if condition == "3D zero":
            assert not clip.any()
        if condition == "flow zero":
            assert not clip[..., -model.video.flow_dims :].any()
            assert torch.equal(clip[..., : -model.video.flow_dims], clip_before[..., : -model.video.flow_dims])
        if condition.endswith("another video"):
            assert all(torch.equal(a, b) for a, b in zip(features(condition, images)[2].fused, before.fused, strict=True))
        assert torch.equal(features()[2].fused[0], before.fused[0])
    with pytest.raises(InputError, match="cannot be replaced"), replaced(model, "audio", strange):
        pass


def test_the_partner_is_a_video_of_other_actions(toy_videos):
    found, videos = partners(toy_videos), {video.name: video for video in toy_videos.videos}
    labels = {name: {tube.label for tube in video.tubes} for name, video in videos.items()}
    for name, other in found.items():
        assert other.name != name
        possible = [one for one in videos if one != name and not labels[one] & labels[name]]
        assert not possible or other.name in possible
    with pytest.raises(InputError, match="holds one video"):
        partners(toy_videos.subset([toy_videos.videos[0].name]))


def test_a_model_of_one_path_has_no_path_to_replace(toy_videos, toy_cache, tiny_config):
    for paths in ("key", "clip"):
        model = MSSC(replace(tiny_config, paths=paths)).eval()
        assert conditions_of(model) == () and score_paths(Detector(model), toy_videos, toy_cache) == {}
    assert "flow zero" not in conditions_of(MSSC(replace(tiny_config, backbone3d="causal_cspdarknet_nano_rgb")))


def test_noise_is_that_of_the_analysis(toy_videos, tiny_config, monkeypatch):
    monkeypatch.setattr("mssc.analysis.corruption.CORRUPTIONS", FEW)
    detector = Detector(sharp(MSSC(tiny_config)))
    found, wanted = score_noise(detector, toy_videos, 6, rounds=5), robustness(detector, toy_videos, step=6)
    pairs = {(kind, float(amount)): one["score"] for kind, amounts in found.items() for amount, one in amounts.items()}
    assert pairs.keys() == wanted.hits.keys()
    for (kind, amount), score in pairs.items():
        assert score == pytest.approx(wanted.frame_map(kind, amount).value, abs=1e-9)


@pytest.mark.gpu
def test_a_gpu_scores_as_the_cpu_does(toy_videos, toy_cache, tiny_config, monkeypatch):
    monkeypatch.setattr("mssc.analysis.corruption.CORRUPTIONS", FEW)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    here = Detector(sharp(MSSC(tiny_config)))
    there = Detector(copy.deepcopy(here.model).cuda())
    for score in (
        lambda one: {"": score_model(one, toy_videos, toy_cache, rounds=2).scores},
        lambda one: {name: scored.scores for name, scored in score_paths(one, toy_videos, toy_cache, rounds=2).items()},
        lambda one: {
            kind: {k: v["score"] for k, v in found.items()} for kind, found in score_noise(one, toy_videos, 6, 2).items()
        },
    ):
        first, second = score(here), score(there)
        assert first.keys() == second.keys()
        for name, values in first.items():
            assert second[name] == pytest.approx(values, abs=0.02), (
                name
            )  # one hit more or less, where a score or an overlap is on the edge


@pytest.mark.gpu
def test_runs_are_trained_and_scored_on_the_device_that_was_asked_for(plan, monkeypatch):
    monkeypatch.setattr("mssc.analysis.corruption.CORRUPTIONS", FEW)
    studied = replace(plan, studies=("paths", "noise"), noise_step=9)
    found = ablate(studied, {"MS-SC": {}}, (0,), "T-A", progress=False)
    assert found.run("MS-SC", 0).paths and found.run("MS-SC", 0).noise
    assert plan.detector(plan.place({}, 0)).device.type == "cuda"
    assert replace(plan, device="cpu").detector(plan.place({}, 0)).device.type == "cpu"


# -------------------------------------------------------------------- runs


def test_results_hold_every_run_with_its_provenance(finished, toy_videos, tiny_config):
    results, plan = finished
    assert results.names == ("2D only", "MS-SC") and results.seeds("MS-SC") == (0, 1)
    assert results.about["dataset"]["videos"] == [video.name for video in toy_videos.videos]
    assert {"python", "torch"} <= results.about["versions"].keys() and results.about["train"]["epochs"] == 1
    for row, changes in TWO.items():
        model = load_model(plan.place(changes, 1) / "model")
        assert model.config == replace(tiny_config, **changes)
        assert results.parameters(row) == sum(p.numel() for p in model.parameters())
        run = results.run(row, 1)
        assert run.facts["steps"] == 3 and len(run.facts["weights"]) == 12 and len(run.facts["right"]) == len(toy_videos)
        again = score_model(Detector(model), toy_videos, plan.cache, rounds=20)
        assert run.scores == pytest.approx(again.scores, abs=1e-4)
    assert results.run("2D only", 0).paths == {} and set(results.run("MS-SC", 0).paths) == set(CONDITIONS)
    assert set(results.run("2D only", 0).noise) == {("none", 0.0), ("blur", 0.04), ("frozen", 1.0)}


def test_a_finished_run_is_not_run_again_and_more_can_be_asked_for(plan, monkeypatch):
    only = {"2D only": TWO["2D only"]}
    first = ablate(plan, only, (0,), "T-A", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("mssc.ablate.runs.Trainer", None)  # whoever trains now, fails
        again = ablate(plan, only, (0,), "T-A", progress=False)
    assert again.run("2D only", 0).facts == first.run("2D only", 0).facts
    more = ablate(replace(plan, studies=("paths",)), TWO, (0, 1), "T-A", progress=False)
    assert more.names == ("2D only", "MS-SC") and more.seeds("2D only") == (0, 1)
    assert more.run("2D only", 0).facts["weights"] == first.run("2D only", 0).facts["weights"]
    assert more.run("MS-SC", 0).paths


def test_a_stopped_run_goes_on_where_it_was(plan, tiny_config):
    straight = finish(plan, {}, 1)
    cut = replace(plan, folder=plan.folder / "cut")
    asked = iter([False, True])
    assert finish(cut, {}, 1, lambda: next(asked)) is None
    assert read_record(cut, {}, 1) is None and (cut.place({}, 1) / "last.pt").exists()
    record = finish(cut, {}, 1)
    assert record["weights"] == straight["weights"] and record["scores"] == straight["scores"]
    assert not (cut.place({}, 1) / "last.pt").exists()


STAGES = (
    Stage("video", {"phase": "video"}, {"backbone3d": "causal_cspdarknet_nano"}),
    Stage("flow", {"heads": ()}, {"backbone3d": "causal_flow", "rgb_dropout": 0.0}, start="video"),
)


def test_rows_are_trained_by_the_stages_of_a_recipe(plan):
    plan = replace(plan, stages=STAGES)
    found = ablate(plan, TWO, (0,), "T-A", progress=False)
    alone, both = (found.run(row, 0).facts["steps"] for row in TWO)
    assert both == 2 * alone > 0, "what has no 3D path has no stage for it alone"
    assert load_model(plan.place({}, 0) / "model").config.backbone3d == "causal_flow"
    assert load_model(plan.place({}, 0) / "video" / "model").config.backbone3d == "causal_cspdarknet_nano"
    assert not list(plan.folder.rglob("last.pt")) and len(found.about["stages"]) == 2
    with pytest.raises(InputError, match="holds an ablation with another stages"):
        ablate(replace(plan, stages=STAGES[1:]), TWO, (0,), "T-A", progress=False)

    cut, steps = replace(plan, folder=plan.folder / "cut"), iter(range(99))
    assert finish(cut, {}, 0, lambda: next(steps) == alone) is None, "stopped in the second stage"
    record = finish(cut, {}, 0)
    assert record["weights"] == found.run("MS-SC", 0).facts["weights"]


WRONG = {"wrong": {"backbone3d": "darknet"}}
TOLD = "1 run of {} failed.*wrong, seed 0: there is no 3D backbone 'darknet'"


def test_a_run_that_fails_is_told_when_the_others_are_done(plan):
    with pytest.raises(InputError, match=TOLD.format(2)):
        ablate(plan, {**WRONG, "2D only": TWO["2D only"]}, (0,), "T-A", progress=False)
    assert load_results(plan.folder / "T-A.json").names == ("2D only",)


def test_several_processes_give_the_same_runs_and_tell_which_failed(finished, tmp_path):
    results, plan = finished
    with pytest.raises(InputError, match=TOLD.format(3)):
        ablate(replace(plan, folder=tmp_path, studies=()), {**WRONG, **TWO}, (0,), "T-A", jobs=2, progress=False)
    other = load_results(tmp_path / "T-A.json")
    assert other.names == tuple(TWO)
    for row in TWO:
        one, two = results.run(row, 0), other.run(row, 0)
        assert two.facts["loss"] == pytest.approx(one.facts["loss"], rel=1e-3)
        assert two.scores == pytest.approx(one.scores, abs=0.02)


def test_rows_of_a_file(tmp_path, toy_videos):
    file = tmp_path / "rows.json"

    def rows(text, *words, output=tmp_path / "out"):
        file.write_text(text)
        return tyro.cli(Ablate, args=[str(file), "--dataset", "toy", "-o", str(output), *words], config=CONFIG)

    given = rows('{"one": {"fusion": "concat", "dropout": 0}, "two": {}}')
    assert given._table() == ("rows", {"one": {"fusion": "concat", "dropout": 0}, "two": {}})
    for text, words in (
        ("[", "is cut off or damaged"),
        ("[]", "holds no rows"),
        ('{"one": {"colour": 3}}', "'colour', which is no option"),
        ('{"one": {"classes": ["a"]}}', "'classes', which is no option"),
        ('{"one": {"width": "wide"}}', "sets width to 'wide'; it is like 64"),
    ):
        with pytest.raises(InputError, match=words):
            rows(text).run()
    with pytest.raises(InputError, match="where the results would be written"):
        rows('{"one": {}}', output=tmp_path).run()
    with pytest.raises(InputError, match="has no row 'three'; use some of: one"):
        rows('{"one": {}}', "--rows", "three").run()
    file.unlink()
    with pytest.raises(InputError, match="there is no table"):
        given.run()


@pytest.mark.parametrize("there", [True, False])
def test_processes_share_a_gpu_by_its_daemon(tmp_path, monkeypatch, caplog, there):
    calls = tmp_path / "calls"
    if there:
        tool = tmp_path / CONTROL
        tool.write_text(f'#!/bin/sh\necho "$@" $CUDA_MPS_PIPE_DIRECTORY >> {calls}\n[ "$1" = -d ] || cat >> {calls}\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv(PIPES, raising=False)
    with side_by_side(1):
        assert PIPES not in os.environ
    with side_by_side(4):
        assert (PIPES in os.environ) == there
        pipes = os.environ.get(PIPES)
    assert PIPES not in os.environ
    if there:
        assert calls.read_text().split() == ["-d", pipes, pipes, "quit"]
    else:
        assert "take turns" in caplog.text


def test_another_ablation_in_the_folder_is_refused(finished):
    _, plan = finished
    before = (plan.folder / "T-A.json").read_bytes()
    for changed, words in (
        (replace(plan, train=replace(SHORT, epochs=2)), "another train"),
        (replace(plan, base=replace(plan.base, window=3)), "another model"),
        (replace(plan, rounds=30), "another rounds"),
    ):
        with pytest.raises(InputError, match=words):
            ablate(changed, TWO, (0,), "T-A", progress=False)
    with pytest.raises(InputError, match="run of an ablation with other settings"):
        ablate(replace(plan, rounds=30), {"both": {}}, (0,), "T-B", progress=False)
    with pytest.raises(InputError, match="holds a row 'MS-SC' with changes"):
        ablate(plan, {"MS-SC": {"fusion": "add"}}, (0,), "T-A", progress=False)
    with pytest.raises(InputError, match="each seed once"):
        ablate(plan, TWO, (0, 0), "T-A", progress=False)
    with pytest.raises(InputError, match="are the same network"):
        ablate(plan, {**TWO, "again": {}}, (0,), "T-A", progress=False)
    with pytest.raises(InputError, match="at least 1"):
        ablate(plan, TWO, (0,), "T-A", jobs=0, progress=False)
    assert (plan.folder / "T-A.json").read_bytes() == before


# -------------------------------------------------------------------- results


def made(folder, runs, reference="a"):
    """A results file with these (row, seed, score, draws)."""
    rows = {row: {"changes": {}, "parameters": 10} for row in dict.fromkeys(run[0] for run in runs)}
    records = [
        {
            "row": row,
            "seed": seed,
            "scores": dict.fromkeys(METRICS, score),
            "draws": dict.fromkeys(METRICS, draws),
            "right": [1, 1],
            "noise": {"none": {"0": {"score": 0.5, "draws": [0.5, 0.5]}}, "blur": {"0.02": {"score": score, "draws": draws}}},
        }
        for row, seed, score, draws in runs
    ]
    head = {"format": 1, "table": "T-A", "reference": reference, "rows": rows, "dataset": {"videos": ["v", "w"]}}
    (folder / "made.json").write_text(json.dumps(head | {"runs": records}))
    return load_results(folder / "made.json")


def test_means_spreads_and_differences_by_hand(tmp_path):
    results = made(
        tmp_path, [("a", 0, 0.2, [0.1, 0.3]), ("a", 1, 0.4, [0.3, 0.5]), ("b", 1, 0.5, [0.4, 0.6]), ("c", 2, 0.9, [1, 1])]
    )
    assert results.mean("a") == pytest.approx(0.3) and results.spread("a") == pytest.approx(0.02**0.5)
    assert np.isnan(results.spread("b"))
    change = results.difference("b")  # seed 1 alone is common; each draw is 0.1 above
    assert (change.value, change.low, change.high, change.videos) == pytest.approx((0.1, 0.1, 0.1, 2))
    assert results.better("b") == (1, 1) and results.better("a", "b") == (0, 1)
    one = results.interval("b")
    assert (one.value, one.low, one.high) == pytest.approx((0.5, 0.405, 0.595))
    with pytest.raises(InputError, match="no seed in common"):
        results.difference("c")
    with pytest.raises(InputError, match="no run of 'd'"):
        results.mean("d")
    assert results.noise_loss("b", "blur", 0.02).value == pytest.approx(0.0)
    assert results.noise_loss("b", "blur", 0.02, "a").value == pytest.approx(-0.1)  # 0.5 - 0.5 against 0.5 - 0.4
    with pytest.raises(InputError, match="--studies noise"):
        results.noise_loss("b", "blur", 0.3)
    with pytest.raises(InputError, match="--studies paths"):
        results.path_loss("b", "2D zero")


def test_an_interval_also_holds_what_seeds_differ_by(tmp_path):
    rounds = 400
    steady = [("a", seed, 0.5, [0.5] * rounds) for seed in range(4)]
    shaky = [("b", seed, value, [value] * rounds) for seed, value in enumerate((0.2, 0.4, 0.6, 0.8))]
    results = made(tmp_path, steady + shaky)
    assert results.interval("a")[:3] == pytest.approx((0.5, 0.5, 0.5))
    low, high = results.interval("b")[1:3]
    assert 0.2 <= low < 0.35 and 0.65 < high <= 0.8  # 0.5 +- 1.96 x 0.224 / 2


def test_one_and_one_against_the_better_one(tmp_path):
    runs = [("2D only", 0, 0.2, [0.2, 0.5]), ("3D only", 0, 0.4, [0.3, 0.4]), ("MS-SC", 0, 0.5, [0.5, 0.6])]
    delta = made(tmp_path, runs, "2D only").more_than_best()
    assert delta.value == pytest.approx(0.1)
    assert (delta.low, delta.high) == pytest.approx((0.1025, 0.1975))  # draws 0.2 and 0.1: the better one changes


def test_files_that_are_no_results_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no results file"):
        load_results(tmp_path / "T-A.json")
    for content in ("{", "[]", '{"format": 1}', '{"format": 1, "table": "T-A", "reference": "a", "rows": {}, "runs": [{}]}'):
        (tmp_path / "T-A.json").write_text(content)
        with pytest.raises(InputError, match="cannot be read as results"):
            load_results(tmp_path / "T-A.json")
    (tmp_path / "T-A.json").write_text('{"format": 9}')
    with pytest.raises(InputError, match="has format 9"):
        load_results(tmp_path / "T-A.json")


# -------------------------------------------------------------------- picture, tables, command


def test_table_and_picture_say_what_the_results_say(finished, tmp_path):
    results, _ = finished
    rows = {(row[1], row[2]): row for row in ablation_rows(results)}
    assert set(rows) == {(row, metric) for row in TWO for metric in METRICS}
    row = rows["MS-SC", "box accuracy"]
    assert row[3] == 2 and row[4] == pytest.approx(results.mean("MS-SC", "box accuracy"))
    change = results.difference("MS-SC", metric="box accuracy")
    assert row[8:] == pytest.approx((change.value, change.low, change.high))
    assert np.isnan(rows["2D only", "box accuracy"][8])
    text = ablation_markdown(results, ("box accuracy",))
    assert text.splitlines()[2].startswith("| 2D only | ") and f"{results.parameters('MS-SC'):,}" in text
    assert f"| {100 * row[4]:.1f} ± {100 * row[5]:.1f} | {100 * change.value:+.1f} [" in text
    assert len(ablation_rows(results)) == 2 * len(METRICS)
    plot = ablation_plot(results, METRICS[:2])
    assert [axes.get_xlabel() for axes in plot.figure.axes] == [f"{metric}, %" for metric in METRICS[:2]]
    bars, dots = plot.figure.axes[0].patches, [line for line in plot.figure.axes[0].lines if line.get_marker() == "o"]
    assert [bar.get_width() for bar in bars] == pytest.approx([100 * results.mean(row) for row in results.names])
    assert sorted(dots[1].get_xdata()) == pytest.approx(sorted(100 * v for v in results.scores("MS-SC").values()))
    assert {file.suffix for file in plot.save(tmp_path, "bars")} == {".pdf", ".png", ".csv", ".tex", ".md"}
    assert "| `frame-mAP@0.5` unlinked |" in ablation_markdown(results), "no mail address"
    with pytest.raises(InputError, match="no metric 'mAP'"):
        ablation_plot(results, ("mAP",))


def test_studies_are_told_as_points_lost(finished):
    results, _ = finished
    lines = studies_markdown(results).splitlines()
    assert lines[0] == "| T-A, lost without a path | MS-SC |"  # of one path nothing can be taken
    assert [line.split(" | ")[0].strip("| ") for line in lines[2 : 2 + len(CONDITIONS)]] == list(CONDITIONS)
    lost = results.path_loss("MS-SC", CONDITIONS[0])
    assert f"{100 * lost.value:+.1f} [{100 * lost.low:+.1f}, {100 * lost.high:+.1f}]" in lines[2]
    noise = lines[lines.index("") + 1 :]
    assert noise[0] == "| T-A, lost with one input spoilt | 2D only | MS-SC |" and len(noise) == 2 + len(FEW)
    kind, amount = "blur", FEW["blur"].amounts[0]
    more = results.noise_loss("MS-SC", kind, amount, "2D only")
    (line,) = (line for line in noise if line.startswith(f"| {kind} {amount:g} |"))
    assert line.endswith(f"; {100 * more.value:+.1f} [{100 * more.low:+.1f}, {100 * more.high:+.1f}] more |")
    bare = replace(results, runs=tuple(replace(run, paths={}, noise={}) for run in results.runs))
    assert studies_markdown(bare) == ""


def command(tmp_path, *words):
    return ["ablate", "T-A", "--dataset", "toy", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out"), *words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rows", "MSM"), "T-A has no row 'MSM'; use some of: 2D only"),
        (("--reference", "x"), "T-A has no row 'x'"),
        (("--seed", "3"), "give --seeds"),
        (("--recipe", "toy", "--epochs", "3"), "the recipe 'toy' brings its own options; leave out --epochs"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        main(command(tmp_path, *words))
    assert stopped.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_trains_scores_and_prints(tmp_path, capsys, toy_videos, monkeypatch):
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *arguments: toy_videos)
    model = (
        "--model.key-size",
        "64",
        "--model.clip-size",
        "32",
        "--model.width",
        "16",
        "--model.hidden",
        "16",
        "--model.kept",
        "4",
    )
    run = ("--epochs", "1", "--batch", "2", "--clip-length", "4", "--keys", "2", "--videos", "4")
    main(command(tmp_path, "--rows", "2D only", "both, concat", "--seeds", "7", *run, *model))
    printed, out = capsys.readouterr().out, tmp_path / "out"
    assert printed == (out / "T-A.md").read_text() and "| both, concat | " in printed
    results = load_results(out / "T-A.json")
    assert results.reference == "both, concat" and results.seeds("2D only") == (7,)
    assert results.about["dataset"]["training"]["videos"] == 4 and results.about["commands"][0].split()[0] == "mssc"
    assert {"T-A.pdf", "T-A.png", "T-A.csv", "T-A.md"} <= {file.name for file in out.iterdir()}
    assert results.about["model"] == json.loads(
        json.dumps(dataclasses.asdict(replace(ModelConfig(), classes=toy_videos.classes, **_model(model))))
    )


def _model(words):
    return {words[i].removeprefix("--model.").replace("-", "_"): int(words[i + 1]) for i in range(0, len(words), 2)}


def test_rows_of_two_tables_that_are_one_network_are_run_once(finished, monkeypatch):
    results, plan = finished
    with monkeypatch.context() as patch:
        patch.setattr("mssc.ablate.runs.Trainer", None)
        other = ablate(plan, {"both": {}}, (0, 1), "T-B", progress=False)
    assert other.names == ("both",) and other.scores("both") == results.scores("MS-SC")
    assert load_results(plan.folder / "T-A.json").names == results.names
