"""The front door: one grammar, help that can be read, flags that exist, and nothing heavy before work begins."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import tyro

from mssc import __main__ as command_line
from mssc.commands import COMMANDS
from mssc.commands.options import CONFIG, NO_OPTIONS, USUAL_NETWORK, USUAL_RUN, meanings
from mssc.config import ModelConfig, TrainConfig

ROOT = Path(__file__).resolve().parent.parent


def says(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        command_line.main(list(arguments))
    assert stopped.value.code == (0 if "--help" in arguments else 2)
    said = capsys.readouterr()
    return said.out + said.err


def test_mssc_is_a_console_command():
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["mssc"]
    module, _, function = target.partition(":")
    assert getattr(import_module(module), function) is command_line.main


def test_nothing_heavy_is_imported_before_work_begins():
    heavy = {
        "torch",
        "torchvision",
        "av",
        "gradio",
        "matplotlib",
        "sklearn",
        "scipy",
        "plotly",
        "timm",
        "onnx",
        "accelerate",
        "PIL",
    }
    script = f"""
import contextlib, sys, mssc
assert not {heavy | {"numpy"}!r} & set(sys.modules)
from mssc.__main__ import main
for words in (["--help"], *([name, "--help"] for name in {list(COMMANDS)!r})):
    with contextlib.suppress(SystemExit):
        main(words)
    assert not {heavy!r} & set(sys.modules), words
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name):
    examples = re.findall(r"^ +mssc (\S+) (.*)$", COMMANDS[name].__doc__, re.MULTILINE)
    assert examples
    for command, words in examples:
        assert command == name
        tyro.cli(COMMANDS[name], args=shlex.split(words), config=CONFIG)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_for_reading(name, capsys):
    text = says(capsys, name, "--help")
    assert f"usage: mssc {name}" in text and f"    mssc {name} " in text
    assert not re.search(r"None|default: \)|True|False|\d\.\d{5}", text)
    bare = [
        line
        for line in text.splitlines()
        if re.fullmatch(r"│ +-.*│", line) and line.split()[1].startswith("--") and "  ." in line
    ]
    assert not bare


@pytest.mark.parametrize("name", ["train", "ablate"])
def test_options_of_a_run_and_of_its_network_come_in_groups(name, capsys):
    groups = re.findall(r"^\W*((?:\w+ )*options)\W*$", says(capsys, name, "--help"), re.MULTILINE)
    assert groups[-4:] == ["options", "run options", "network options", "rarely used options"]
    assert set(USUAL_RUN) < set(TrainConfig.__dataclass_fields__)
    assert {*USUAL_NETWORK, *NO_OPTIONS} < set(ModelConfig.__dataclass_fields__)


@pytest.mark.parametrize("config", [TrainConfig, ModelConfig])
def test_what_every_setting_means_stands_behind_it(config):
    assert set(meanings(config)) | {*NO_OPTIONS} >= set(config.__dataclass_fields__)


def test_options_become_the_configs():
    words = shlex.split(
        "--dataset toy -o runs --epochs 3 --ema 0.5 --model.key-size 64 --model.clip-size 32 --model.kept 5 --cache c"
    )
    train = tyro.cli(COMMANDS["train"], args=words, config=CONFIG)
    assert train.config == TrainConfig(epochs=3, ema=0.5) and train.rare.cache == Path("c")
    assert train.model == ModelConfig(key_size=64, clip_size=32, kept=5)
    ablate = tyro.cli(COMMANDS["ablate"], args=["T-A", *words], config=CONFIG)
    assert ablate.config == TrainConfig(epochs=3, ema=0.5, workers=0)


def test_options_that_do_not_fit_are_refused_in_one_sentence(capsys):
    small = ("train", "--dataset", "toy", "-o", "/nowhere/run", "--data", "/nowhere")
    assert says(capsys, *small, "--epochs", "0") == "mssc: epochs is 0; it must be at least 1.\n"
    assert "clip_size 112 does not divide key_size 64" in says(capsys, *small, "--model.key-size", "64")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train jhmdb --data DIR -o 'my runs'", "train --dataset jhmdb --data DIR -o 'my runs'"),
        ("train --data DIR --all-videos -o runs custom", "train --data DIR --all-videos -o runs --dataset custom"),
        ("evaluate jhmdb jhmdb --data DIR", "evaluate jhmdb --dataset jhmdb --data DIR"),
        ("evaluate toy --detections found --data DIR", "evaluate --dataset toy --detections found --data DIR"),
        ("check-data custom --data toy", "check-data --dataset custom --data toy"),
    ],
)
def test_old_forms_print_the_new_one_and_run(old, new, caplog):
    command = command_line._parse(shlex.split(old))
    assert caplog.messages == [f"the data set is named with --dataset; this runs as: mssc {new}"]
    assert command == command_line._parse(shlex.split(new)) and len(caplog.messages) == 1


def test_old_forms_that_could_mean_two_things_are_refused(capsys):
    said = says(capsys, "evaluate", "toy", "jhmdb", "toy")
    assert said == "mssc: jhmdb and toy cannot both be the data set; name it with --dataset.\n"


def test_what_is_no_command_is_refused(capsys):
    assert "mssc has no command look; there are detect" in says(capsys, "look")
    assert "mssc needs a command; there are detect" in says(capsys)


def messages(path: Path) -> set[str]:
    """Every text of a file but docstrings, which speak to its reader."""
    tree = ast.parse(path.read_text())
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(node.body[0].value) for node in documented if isinstance(node.body[0], ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_every_flag_that_is_spoken_of_exists(capsys):
    known = set(re.findall(r"--[a-z][\w.-]*", "".join(says(capsys, name, "--help") for name in COMMANDS)))
    page = set(re.findall(r"--[a-z]+", (ROOT / "app.py").read_text()))
    for path in sorted((ROOT / "mssc").rglob("*.py")):
        spoken = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", " ".join(messages(path))))
        assert spoken <= known | page | {"--help", "--model"}, path
    commands = re.compile(rf"\bmssc (?:{'|'.join(COMMANDS)}) [^`\n#|]*")
    for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]:
        for words in commands.findall(path.read_text()):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", words)) <= known, (path, words)
