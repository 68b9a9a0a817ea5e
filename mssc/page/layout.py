"""The page: its tabs, and which script asks whom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..detection.people import PERSON_SCORE
from ..detection.resources import tune_malloc
from ..plots.words import MEASURES
from . import answers, texts, visits
from .limits import ACCEPTED, KEEP_SECONDS, LIMITS, MAX_SECONDS, MAX_UPLOAD_MB, MAX_WAITING
from .live import MAX_FRAMES, REMEMBER_SECONDS, live_step
from .offer import EXAMPLE_FILES, EXAMPLE_MODEL, EXAMPLES, classes_of, names, painted, threshold_of

HERE = Path(__file__).parent
TOLD = ("AUROC", "d_euc", "Fisher J", "silhouette")  # measures of the tab that looks inside
LIVE_SIDE = 320  # pixels of the longer side that the camera sends
CSS = (HERE / "page.css").read_text()
# The machine's own fonts, so that none is fetched; a blue that is dark enough for white text.
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
    color_accent="*primary_600",
    block_label_text_color="*primary_700",
    block_title_text_color="*primary_700",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="*neutral_600",
    button_border_width="1px",
    button_border_width_dark="1px",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
)


def build(model: str) -> gr.Blocks:
    """The page, ready to launch.

    Args:
        model: the name of the one to begin with.
    """
    tune_malloc(arenas=2)
    offered = [painted(name) for name in names()]
    with gr.Blocks(title="MS-SC: action tubes", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown(texts.INTRO, elem_id="intro")
        with gr.Tab("Your video"):
            _detect_tab(model, offered)
        with gr.Tab("Live"):
            gr.Markdown(texts.LIVE)
            limits = {"side": LIVE_SIDE, "most": MAX_FRAMES, "seconds": REMEMBER_SECONDS, "person": PERSON_SCORE}
            _component("live", server_functions=[live_step], models=offered, model=model, limits=limits, prompts=texts.PROMPTS)
        with gr.Tab("Look inside"):
            _inside_tab(model, offered)
        gr.Markdown(texts.FOOTER, elem_classes="hint")
        _endpoints(model)
        page.unload(_leave)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _component(name: str, scripts: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A tab's own part: ``name.html``, ``name.css`` and its scripts, which share one scope; and what is common to all.

    Args:
        name: of the files.
        scripts: names of JavaScript files, in order; ``common.js`` comes first, ``name.js`` last.
        options: of `gradio.HTML`; those that it does not know are read by the scripts as ``props``.
    """
    return gr.HTML(
        html_template=(HERE / f"{name}.html").read_text(),
        css_template="".join((HERE / f"{style}.css").read_text() for style in ("common", name)),
        js_on_load="\n".join((HERE / f"{script}.js").read_text() for script in ("common", *scripts, name)),
        apply_default_css=False,
        elem_id=name,
        **options,
    )


def _leave(request: gr.Request) -> None:
    visits.leave(request.session_hash)


def _detect_tab(model: str, offered: list[dict[str, Any]]) -> None:
    examples = EXAMPLE_FILES if EXAMPLE_MODEL in names() else {}
    part = _component(
        "detect",
        ["stage", "timeline", "upload"],
        models=offered,
        model=model,
        examples=[
            {"file": file, "text": text, "model": EXAMPLE_MODEL} for file, text in examples.items() if (EXAMPLES / file).exists()
        ],
        accepted=ACCEPTED,
        limits=LIMITS,
        most=MAX_UPLOAD_MB,
        longest=MAX_SECONDS,
        about=None,
        copy=None,
        made=None,
    )
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "multiple"}
    found = part.find(answers.find, None, part, concurrency_id="model", **quiet)
    found.failure(lambda: {"error": texts.CORNER}, None, part, queue=False, **quiet)
    part.look(answers.look, None, part, queue=False, **quiet)
    copied = part.copy(answers.copy, None, part, concurrency_id="copy", **quiet)
    copied.failure(lambda: gr.update(copy={"error": texts.CORNER}), None, part, queue=False, **quiet)
    made = part.make(answers.make, None, part, concurrency_id="make", **quiet)
    made.failure(lambda: gr.update(made={"error": texts.CORNER}), None, part, queue=False, **quiet)
    part.cancel(answers.cancel, None, None, queue=False, **quiet)


def _endpoints(model: str) -> None:
    """What clients may call; nothing of it is seen on the page."""
    hidden: dict[str, Any] = {"visible": False}
    button = gr.Button(**hidden)
    button.click(answers.models, None, gr.JSON(label="Models", **hidden), api_name="models", queue=False)
    video = gr.Video(label="Your video", **hidden)  # a gr.File would leave a copy of its own behind
    choice = gr.Dropdown(names(), value=model, label="Model", **hidden)
    threshold = gr.Slider(0.01, 0.99, threshold_of(model), step=0.01, label="Threshold", **hidden)
    files = [gr.File(label=label, **hidden) for label in ("Video with boxes", "Table")]
    button.click(
        answers.detect,
        [video, choice, threshold],
        [gr.JSON(label="Found", **hidden), *files],
        api_name="detect",
        concurrency_id="model",
    )
    moment = gr.Number(0, label="Moment (seconds)", minimum=0, **hidden)
    second = gr.Dropdown([("none", ""), *names()], value=_beside(model), label="Beside it", **hidden)
    button.click(
        answers.look_inside,
        [video, choice, threshold, moment, second],
        gr.JSON(label="Seen", **hidden),
        api_name="look_inside",
        concurrency_id="inside",
    )


def _beside(model: str) -> str:
    """A model to compare another one with: the first of the same actions; none if there is none."""
    return next((name for name in names() if name != model and classes_of(name) == classes_of(model)), "")


def _inside_tab(model: str, offered: list[dict[str, Any]]) -> None:
    gr.Markdown(texts.INSIDE)
    terms = {name: MEASURES[name] for name in TOLD}
    measures = {
        name: [term.words if name in term.words else f"{term.words} ({name})", term.sentence] for name, term in terms.items()
    }
    part = _component("inside", models=offered, model=model, measures=measures, looked=None)
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "multiple"}
    looked = part.look(answers.look_into, None, part, concurrency_id="inside", **quiet)
    looked.failure(lambda: gr.update(looked={"error": texts.CORNER}), None, part, queue=False, **quiet)
    part.cancel(answers.cancel, None, None, queue=False, **quiet)
