"""The house: imports point one way, files stay readable, nothing prints."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = [
    "structures",
    "files",
    "boxes",
    "config",
    "video",
    "model",
    "data",
    "linking",
    "evaluate",
    "detection",
    "scoring",
    "training",
    "analysis",
    "ablate",
    "plots",
    "page",
    "commands",
    "__main__",
]
RANK = {name: rank for rank, name in enumerate(ORDER)}
ALLOWED = {"evaluate": {"structures", "boxes"}, "structures": set()}
FILES = sorted((ROOT / "mssc").rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT / "mssc").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The parts of mssc that a file imports, also inside functions."""
    found = set()
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*module, alias.name]) for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("mssc.")}
    return found & set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    me = part(path)
    if me == "__init__":
        return
    others = imported(path) - {me}
    if me in ALLOWED:
        assert others <= ALLOWED[me]
    late = {other for other in others if RANK[other] > RANK[me]}
    assert not late, f"{me} must not know {late}"


def test_every_part_has_a_place():
    assert {part(path) for path in FILES} - {"__init__"} == set(RANK)


def test_the_check_sees_relative_imports():
    assert imported(ROOT / "mssc" / "model" / "mssc.py") >= {"config", "structures"}
    assert "detection" in imported(ROOT / "mssc" / "training" / "loop.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_readable(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a file says what it is"
    assert len(text.splitlines()) <= 500, "long files want to become two"
    assert path.name != "utils.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno} prints"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_speak_in_sentences(path):
    nodes = [ast.parse(path.read_text())]
    for node in nodes:
        public = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
        nodes += [n for n in public if isinstance(n, ast.ClassDef)]
        for one in public:
            first = (ast.get_docstring(one) or "").partition("\n\n")[0]
            assert first.endswith((".", ":", "?")) or (one.name == "forward" and not first), f"{one.name}: {first!r}"


NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "google": "protobuf", "yaml": "pyyaml"}
"""Packages by the name of the module that is imported, where it differs."""
OPTIONAL = {"spaces", "supervision"}
"""Imported where they are there: a Hugging Face Space brings the one, whoever uses the other has it."""


def packages(folder: str) -> set[str]:
    """The packages that files import, in lower case."""
    found = set()
    for path in [*(ROOT / folder).rglob("*.py"), *([ROOT / "app.py"] if folder == "mssc" else [])]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            found |= {name.split(".")[0] for name in names}
    here = {path.stem for path in (ROOT / folder).glob("*.py")} | {"mssc", "app"}
    return {NAMES.get(name, name).lower() for name in found - here - OPTIONAL - sys.stdlib_module_names}


def test_every_import_is_declared():
    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", line)[0].lower().replace("_", "-") for line in lines if line.strip()}

    wanted = names((ROOT / "requirements.txt").read_text().splitlines())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = names(project["optional-dependencies"]["dev"])
    assert not wanted & extra
    used = {name.replace("_", "-") for name in packages("mssc")}
    assert used <= wanted, "add to requirements.txt"
    assert {name.replace("_", "-") for name in packages("tests") | packages("benchmarks")} <= wanted | extra, (
        "add to the dev extra"
    )


def test_nothing_speaks_of_the_place_where_it_was_made():
    words = ["/".join(("", "work", "")), "MSSC" + "_CONTRACT", "shared" + "/design"]
    for path in [*FILES, *(ROOT / "tests").glob("*.py"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "app.py"]:
        assert not [word for word in words if word in path.read_text()], path


def test_training_from_decoded_frames_needs_no_video_library():
    blocked = ("av", "timm", "tyro", "gradio", "plotly", "matplotlib", "onnxruntime")
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import mssc.ablate.runs, mssc.training.recipes"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
