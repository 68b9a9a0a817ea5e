"""The training loop: it learns, it survives a kill, it refuses what it cannot use."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from mssc.config import TrainConfig
from mssc.data.clips import BatchOrder, ClipDataset, collate
from mssc.model.checkpoint import load_model
from mssc.model.mssc import MSSC
from mssc.model.transfer import carry_over
from mssc.structures import InputError, Tube
from mssc.training.heads import TrainingHeads
from mssc.training.loop import CHECKED, MOST_BAD_CHECKS, Trainer, validate
from mssc.training.losses import total
from mssc.training.step import Learner, compute_losses, freeze, jitter, learning_rate, mix, parameter_groups

SHORT = TrainConfig(epochs=2, batch=2, clip_length=6, keys=2, workers=0, frozen="none", warmup=0.2)


def trainer(folder, toy_videos, toy_cache, tiny_config, train=SHORT, validation=None):
    return Trainer(tiny_config, train, folder, toy_videos, toy_cache, validation, progress=False)


def weights(model: MSSC) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def straight(tmp_path_factory, toy_videos, toy_cache, tiny_config):
    """A run that nobody stops: its folder, how many steps it has, and its weights."""
    whole = trainer(tmp_path_factory.mktemp("whole"), toy_videos, toy_cache, tiny_config)
    return whole.folder, whole.steps, weights(whole.run())


@pytest.fixture(scope="module")
def begun(tmp_path_factory, toy_videos, toy_cache, tiny_config):
    """The folder of a run that was stopped at once."""
    run = trainer(tmp_path_factory.mktemp("begun"), toy_videos, toy_cache, tiny_config)
    run.run(stop=lambda: True)
    return run.folder


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, toy_videos, toy_cache, tiny_config, stop_after, straight):
    first = trainer(tmp_path / "cut", toy_videos, toy_cache, tiny_config)
    first.run(stop=lambda: first.step == stop_after)
    # what a kill leaves behind: lines of the steps after the checkpoint
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 999}) + "\n")
    second = trainer(tmp_path / "cut", toy_videos, toy_cache, tiny_config)
    assert second.step == stop_after
    assert torch.equal(weights(second.run()), straight[2])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == straight[1] and 999 not in steps


def test_a_worker_process_changes_nothing(tmp_path, toy_videos, toy_cache, tiny_config):
    one = replace(SHORT, epochs=1)
    alone = trainer(tmp_path / "a", toy_videos, toy_cache, tiny_config, one).run()
    helped = trainer(tmp_path / "b", toy_videos, toy_cache, tiny_config, replace(one, workers=1)).run()
    assert torch.equal(weights(alone), weights(helped))


def test_another_run_in_the_folder_is_refused(tmp_path, toy_videos, toy_cache, tiny_config, begun):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"other settings \(learning_rate .*, now 0.5\)"):
        trainer(tmp_path, toy_videos, toy_cache, tiny_config, replace(SHORT, learning_rate=0.5))
    other = toy_videos.subset(video.name for video in toy_videos.videos[:-1])
    with pytest.raises(InputError, match=r"other settings \(training .*, now "):
        trainer(tmp_path, other, toy_cache, tiny_config)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="other settings"):
        trainer(tmp_path, toy_videos, toy_cache, tiny_config)


@pytest.mark.parametrize(("name", "kept"), [("last.pt", 0), ("last.pt", 2000), ("last.pt", -100), ("run.json", 40)])
def test_files_that_are_cut_off_are_named_with_the_way_out(tmp_path, toy_videos, toy_cache, tiny_config, begun, name, kept):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{name} is cut off or damaged.*copy it again, or delete it to begin the run anew"):
        trainer(tmp_path, toy_videos, toy_cache, tiny_config)


def test_a_cut_line_of_the_metrics_costs_itself_alone(tmp_path, toy_videos, toy_cache, tiny_config, straight):
    shutil.copytree(straight[0], tmp_path, dirs_exist_ok=True)
    lines = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines[:-20])
    trainer(tmp_path, toy_videos, toy_cache, tiny_config)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == lines.splitlines()[:-1]
    (tmp_path / "metrics.jsonl").unlink()
    assert trainer(tmp_path, toy_videos, toy_cache, tiny_config).step == straight[1]


def test_files_of_something_else_are_not_overwritten(tmp_path, toy_videos, toy_cache, tiny_config):
    (tmp_path / "metrics.jsonl").write_text("mine\n")
    with pytest.raises(InputError, match="is there already, and no earlier run wrote it"):
        trainer(tmp_path, toy_videos, toy_cache, tiny_config)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine\n"


def test_the_best_model_is_kept_and_loads(tmp_path, toy_videos, toy_cache, tiny_config):
    run = trainer(tmp_path, toy_videos, toy_cache, tiny_config, replace(SHORT, epochs=1), toy_videos)
    final = run.run()
    kept = load_model(tmp_path / "model")
    assert torch.equal(weights(kept), weights(final))
    entry = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= entry["frame_map"] <= 1 and 0 < entry["loader_share"] < 1 and np.isfinite(entry["loss"])


def test_classes_must_agree(tmp_path, toy_videos, toy_cache, tiny_config):
    with pytest.raises(InputError, match="classes"):
        trainer(tmp_path, toy_videos, toy_cache, replace(tiny_config, classes=("jump",)))


def test_processes_that_cannot_work_together_are_refused(tmp_path, toy_videos, toy_cache, tiny_config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes were started, but without a GPU for each"):
        trainer(tmp_path / "run", toy_videos, toy_cache, tiny_config)
    assert not (tmp_path / "run").exists()


def test_another_fusion_learns_what_the_former_one_says(tmp_path, toy_videos, toy_cache, tiny_config):
    torch.manual_seed(0)
    wide = MSSC(replace(tiny_config, fusion_reduction=1, fusion_residual="part")).eval()
    narrow = replace(tiny_config, fusion_context="correlation")
    train = replace(SHORT, phase="fusion", epochs=12, learning_rate=3e-2, mixup=0.0, ema=0.0, clip_gradient=1.0)
    run = Trainer(
        narrow, train, tmp_path, toy_videos, toy_cache, None, None, carry_over(wide, narrow), progress=False, teacher=wide
    )
    before = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    model = run.run()
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same or name.startswith("fusion."), f"{name} has learnt, and is no part of fusion"
    losses = [entry["fusion"] for entry in run.metrics()]
    assert losses[-1] < losses[0] / 2, "of what the former fusion's maps vary by, less is left untold"
    assert load_model(tmp_path / "model").config == narrow


def test_what_another_fusion_needs_is_said(tmp_path, toy_videos, toy_cache, tiny_config):
    wide, train = MSSC(tiny_config), replace(SHORT, phase="fusion")
    asked = (train, tmp_path / "run", toy_videos, toy_cache, None, None)
    with pytest.raises(InputError, match="another fusion, and learns from it; name it with --start"):
        Trainer(tiny_config, *asked, progress=False)
    for other in (replace(tiny_config, motion="none"), replace(tiny_config, fusion_branch="task")):
        with pytest.raises(InputError, match="change nothing but --model.fusion-"):
            Trainer(other, *asked, carry_over(wide, other), progress=False, teacher=wide)


def test_what_has_no_part_in_a_phase_is_not_trained(tiny_config):
    network = MSSC(replace(tiny_config, person="detector"))
    for phase, trained in (
        ("all", {"image", "video", "fusion", "head"}),
        ("video", {"video"}),
        ("fusion", {"fusion"}),
        ("person", {"person"}),
    ):
        network.requires_grad_(True).train()
        freeze(network, TrainConfig(phase=phase, frozen="none"))
        assert {name.partition(".")[0] for name, p in network.named_parameters() if p.requires_grad} == trained
        assert not network.person.training and network.video.training == ("video" in trained)


def test_no_step_waits_for_a_gpu(tmp_path, toy_videos, toy_cache, tiny_config):
    run = trainer(tmp_path, toy_videos, toy_cache, tiny_config)
    batch = next(run._batches())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        mixed = mix(batch, 1.0, np.random.default_rng(0))
        total(compute_losses(run.learner, mixed, tiny_config, SHORT), SHORT).backward()
    names = {event.key for event in profile.key_averages()}
    # none gives a number to Python, or a tensor whose size depends on the data
    assert not names & {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::is_nonzero"}
    assert {"aten::topk", "aten::roll"} <= names


def spoil(run):
    with torch.no_grad():
        run.network.head.boxes.obj_preds[0].bias.fill_(float("nan"))


def test_losses_that_are_no_numbers_again_and_again_end_the_run(tmp_path, toy_videos, toy_cache, tiny_config):
    run = trainer(tmp_path, toy_videos, toy_cache, tiny_config, replace(SHORT, epochs=CHECKED * MOST_BAD_CHECKS))
    before = weights(run.ema.module).clone()
    spoil(run)
    run._keep_state()
    with pytest.raises(InputError, match="learning-rate"):
        run.run()
    assert torch.equal(weights(run.ema.module), before)


@pytest.mark.parametrize("step", [0, 4])
def test_a_step_whose_loss_is_no_number_is_undone(tmp_path, toy_videos, toy_cache, tiny_config, step):
    run = trainer(tmp_path, toy_videos, toy_cache, tiny_config)  # two epochs of three steps
    if step == 0:
        spoil(run)
    kept = []
    model = run.run(lambda: run.step == step and not kept and (kept.append(spoil(run)) or False))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["loss" in line for line in lines] == [step != 0, step == 0]  # the epoch with the bad step has no loss to tell
    assert all(tensor.isfinite().all() for tensor in [*model.state_dict().values(), *run.network.state_dict().values()])


def test_only_frozen_stages_keep_their_weights(tmp_path, toy_videos, toy_cache, tiny_config):
    start, frozen = MSSC(tiny_config).state_dict(), replace(SHORT, epochs=1, frozen="stem")
    run = Trainer(tiny_config, frozen, tmp_path, toy_videos, toy_cache, start=start, progress=False)
    model = run.network
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    run.run()
    stem = tuple(f"{path}.{stage}." for path in ("image.backbone", "video.backbone.net") for stage in ("stem", "dark2"))
    kept = [name for name in before if name.startswith(stem)]
    assert {name.split(".stem.")[0].split(".dark2.")[0] for name in kept} == {"image.backbone", "video.backbone.net"}
    for name, tensor in model.state_dict().items():
        if name in kept:
            assert torch.equal(tensor, before[name]), name
    changed = [n for n, p in model.named_parameters() if p.requires_grad and not torch.equal(p, before[n])]
    assert len(changed) > 0.9 * sum(p.requires_grad for p in model.parameters())


def test_random_weights_are_not_frozen(tmp_path, toy_videos, toy_cache, tiny_config):
    run = trainer(tmp_path, toy_videos, toy_cache, tiny_config, replace(SHORT, frozen="stem"))
    assert all(p.requires_grad for p in run.network.parameters())


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and np.argmax(rates) in (9, 10)
    assert rates[-1] < 0.02 and all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_every_parameter_is_in_one_group(tiny_config):
    model = MSSC(tiny_config)
    started = list(model.image.backbone.parameters())
    groups = parameter_groups(model, started, SHORT)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert rate[id(started[0])] == pytest.approx(SHORT.learning_rate / 3)
    assert all(decay[id(p)] == (SHORT.weight_decay if p.ndim > 1 else 0) for p in model.parameters())


def test_jittered_boxes_stay_near_and_inside():
    boxes = torch.tensor([[10.0, 10, 50, 60], [0, 0, 64, 64]])
    copies = jitter(boxes, 64)
    assert copies.shape == (2, 3, 4) and copies.min() >= 0 and copies.max() <= 64
    assert (copies[0] - boxes[0]).abs().max() < 0.35 * 50


def test_validation_scores_lie_between_0_and_1(toy_videos, toy_cache, tiny_config):
    torch.manual_seed(0)
    score = validate(MSSC(tiny_config).eval(), toy_videos, toy_cache, 4)
    assert set(score) == {"frame_map", "actor_ap", "box_accuracy"} and all(0 <= v <= 1 for v in score.values())


def test_only_labelled_frames_are_validated(toy_videos, toy_cache, tiny_config):
    # Known of frames 2, 5 and 9 only: there it acts, elsewhere nobody knows.
    whole = toy_videos.videos[0]
    box = np.array([[4.0, 4, 40, 40]])
    video = replace(whole, tubes=tuple(Tube(1, 1.0, frame, box) for frame in (2, 5, 9)), labelled=(2, 5, 9))
    sparse = replace(toy_videos, videos=(video,))
    torch.manual_seed(0)
    model = MSSC(tiny_config).eval()
    shown = []
    step = model.step
    model.step = lambda clip, state, keys, **how: shown.append((clip.shape[2], keys.tolist())) or step(clip, state, keys, **how)
    score = validate(model, sparse, toy_cache, 1)
    # a window of 4 frames that ends at the key frame
    assert shown == [(3, [[2]]), (4, [[3]]), (4, [[3]])] and 0 <= score["frame_map"] <= 1
    shown.clear()
    validate(model, sparse, toy_cache, 2)  # every second labelled frame: 2 and 9
    assert shown == [(3, [[2]]), (4, [[3]])]


@pytest.mark.slow
def test_a_tiny_network_learns_a_batch_by_heart(toy_videos, toy_cache, tiny_config):
    config = replace(tiny_config, dropout=0.0)
    train = replace(SHORT, clip_length=6, keys=2, smallest_crop=1.0, label_smoothing=0.0)
    clips = ClipDataset(toy_videos, toy_cache, config, train)
    batch = collate([clips[item] for item in next(iter(BatchOrder(len(toy_videos), 3, 0)))], toy_cache, config.key_size)
    torch.manual_seed(0)
    model = MSSC(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=0)
    history = []
    for _ in range(60):
        losses = compute_losses(Learner(model, TrainingHeads(config, (), model.image.widths), "all"), batch, config, train)
        optimizer.zero_grad()
        total(losses, train).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    late = {name: np.mean([h[name] for h in history[-10:]]) for name in history[0]}
    assert late["action"] < 0.5 * history[0]["action"], late
    assert late["box"] < 0.85 * history[0]["box"], late
    assert late["objectness"] < 0.5 * history[0]["objectness"], late
