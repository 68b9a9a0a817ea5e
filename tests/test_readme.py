"""What is written for readers: snippets run, links lead somewhere, cards and the citation say what they must."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from mssc.model.shipped import available_models, learnt, weights_hash

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("assets/**/*.md"))]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_snippets_run_as_written(page, tmp_path, monkeypatch, capsys):
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    assert snippets and len(capsys.readouterr().out.splitlines()) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text.replace("\n", " ")) + re.findall(r'href="([^"]+)"', text)
    broken = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("folder", sorted(available_models().values()), ids=lambda folder: folder.name)
def test_a_card_is_of_the_weights_beside_it_and_they_know_what_they_learnt_from(folder):
    assert f"SHA-256 begins with {weights_hash(folder)[:12]}" in (folder / "README.md").read_text()
    assert len(learnt(folder)) == {"toy": 240, "jhmdb": 660, "jhmdb-plain": 526}[folder.name]


def test_the_readme_is_short_and_every_page_is_found_from_it():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    lonely = [page.name for page in ROOT.glob("docs/*.md") if f"](docs/{page.name})" not in text]
    assert not lonely


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_a_page_is_one_question(page):
    heading = page.read_text().splitlines()[0]
    assert heading.startswith("# ") and heading.endswith("?")


@pytest.mark.parametrize("card", sorted(ROOT.glob("assets/models/*/README.md")), ids=lambda card: card.parent.name)
def test_the_hub_shows_licence_and_kind_of_each_model(card):
    said = ModelCard.load(card).data.to_dict()
    assert {"license", "tags", "datasets", "metrics", "pipeline_tag"} <= set(said)
    if "research" in card.read_text():
        assert (said["license"], said["license_name"]) == ("other", "research-only") and said["license_link"]
    else:
        assert said["license"] == "mit"


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"]) and cited["authors"]
