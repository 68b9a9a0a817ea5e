"""The page: its tabs, and which button asks for what."""

import os
from typing import Any

import gradio as gr

from ..detection.resources import tune_malloc
from . import answers, texts, visits
from .detection import Seen, failed
from .limits import KEEP_SECONDS, LIMITS, MAX_SECONDS, MAX_WAITING
from .live import MAX_FRAMES, REMEMBER_SECONDS, live_step
from .offer import about, classes_of, names
from .player import HERE, component

ROOT = HERE.parents[1]
EXAMPLES = ROOT / "assets" / "examples"
EXAMPLE_MODEL = "toy"
EXAMPLE_FILES = {"toy.mp4": "Example: one actor", "toy-two.mp4": "Example: two actors"}
# More pixels only slow the browser's encoder down, and nobody's voice is needed.
WEBCAM = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}, "frameRate": {"ideal": 30}}, "audio": False}
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
    with gr.Blocks(title="MS-SC: action tubes", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown(texts.INTRO)
        seen = gr.State(None)
        with gr.Tab("Detect"):
            inputs = _detect_tab(model, seen)
        with gr.Tab("Live"):
            gr.Markdown(texts.LIVE)
            offered = [{"name": name, "threshold": about(name)[0]} for name in names()]
            told = {"models": offered, "model": model, "side": LIVE_SIDE, "most": MAX_FRAMES, "seconds": REMEMBER_SECONDS}
            component("live", told, server_functions=[live_step])
        with gr.Tab("Look inside"):
            _inside_tab(model, seen, inputs)
        gr.Markdown(texts.FOOTER + _notebooks(), elem_classes="hint")
        gr.Button(visible=False).click(
            answers.models, None, gr.JSON(label="Models", visible=False), api_name="models", queue=False
        )
        page.unload(_leave)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _leave(request: gr.Request) -> None:
    visits.leave(request.session_hash)


def _notebooks() -> str:
    """Where to read on: the notebooks, if there are any; a Space can link them."""
    if not any((ROOT / "notebooks").glob("*.ipynb")):
        return ""
    space = os.environ.get("SPACE_ID")
    where = f"[notebooks](https://huggingface.co/spaces/{space}/tree/main/notebooks)" if space else "notebooks in `notebooks/`"
    return f" The {where} show, one question each, how it works."


def _detect_tab(model: str, seen: gr.State) -> list[gr.components.Component]:
    threshold, knows = about(model)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            # Both sources, with sound, unmirrored, as they come: anything else needs ffmpeg on the machine.
            video = gr.Video(
                label="Your video",
                sources=["upload", "webcam"],
                webcam_options=gr.WebcamOptions(mirror=False, constraints=WEBCAM),
                elem_id="upload",
            )
            gr.Markdown(LIMITS, elem_classes="hint")
            files = [EXAMPLES / file for file in EXAMPLE_FILES]
            buttons: list[tuple[gr.Button, str]] = []
            if EXAMPLE_MODEL in names() and all(file.exists() for file in files):
                gr.Markdown("No video at hand? Generated clips, for the toy model:", elem_classes="hint")
                with gr.Row():
                    buttons = [
                        (gr.Button(text, size="sm", min_width=120), str(EXAMPLES / file)) for file, text in EXAMPLE_FILES.items()
                    ]
            choice = gr.Dropdown(names(), value=model, label="Model", elem_id="model")
            known = gr.Markdown(knows, elem_classes="hint")
            slider = gr.Slider(
                0.01, 0.99, threshold, step=0.01, label="Threshold", info="Lower finds more, and more that is wrong."
            )
            with gr.Row():
                start = gr.Button("Find actions", variant="primary", size="lg", elem_id="start")
                stop = gr.Button("Cancel", variant="stop", size="lg", visible=False, elem_id="cancel")
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(texts.START, elem_classes="status", elem_id="status")
            player = component("player")
    private: dict[str, Any] = {"api_visibility": "private"}
    choice.input(about, choice, [slider, known], **private)
    for button, file in buttons:
        button.click(
            lambda file=file: (file, EXAMPLE_MODEL, *about(EXAMPLE_MODEL)), None, [video, choice, slider, known], **private
        )
    video.change(answers.look_at_upload, video, status, show_progress="hidden", **private)
    working = {
        True: lambda: (gr.Button(interactive=False), gr.Button(visible=True)),
        False: lambda: (gr.Button(interactive=True), gr.Button(visible=False)),
    }
    begun = start.click(lambda: (None, *working[True]()), None, [player, start, stop], show_progress="hidden", **private)
    done = begun.then(
        answers.find_actions,
        [video, choice, slider],
        [status, player, seen],
        show_progress="minimal",
        show_progress_on=status,
        concurrency_id="model",
        scroll_to_output=True,
        **private,
    )
    done.then(working[False], None, [start, stop], show_progress="hidden", **private)
    done.failure(lambda: failed(texts.CORNER), None, status, show_progress="hidden", **private)
    stop.click(
        lambda: ("<p>Cancelled. Nothing was kept.</p>", None, *working[False]()),
        None,
        [status, player, start, stop],
        cancels=[done],
        show_progress="hidden",
        **private,
    )
    gr.Button(visible=False).click(
        answers.detect,
        [video, choice, slider],
        [
            gr.JSON(visible=False, label="Found"),
            gr.File(visible=False, label="Video with boxes"),
            gr.File(visible=False, label="Table"),
        ],
        api_name="detect",
        concurrency_id="model",
    )
    return [video, choice, slider]


def _beside(model: str) -> str:
    """A model to compare another one with: the first of the same actions; none if there is none."""
    return next((name for name in names() if name != model and classes_of(name) == classes_of(model)), "")


def _inside_tab(model: str, seen: gr.State, inputs: list[gr.components.Component]) -> None:
    gr.Markdown(texts.INSIDE)
    with gr.Row():
        moment = gr.Slider(0, MAX_SECONDS, 0, step=0.01, label="Moment (seconds)", elem_id="moment")
        first = gr.Dropdown(names(), value=model, label="Model", elem_id="first")
        others = [("none", ""), *((name, name) for name in names())]
        second = gr.Dropdown(others, value=_beside(model), label="Beside it", elem_id="second")
    with gr.Row():
        now = gr.Button("Take the moment that the player shows", size="lg")
        start = gr.Button("Look inside", variant="primary", size="lg", elem_id="look")
        stop = gr.Button("Cancel", variant="stop", size="lg", elem_id="stop-looking")
    status = gr.HTML("", elem_classes="status", elem_id="looking")
    shown = gr.HTML("", css_template=(HERE / "inside.css").read_text(), apply_default_css=False, elem_id="inside")
    gr.Markdown(texts.EMBEDDING, elem_classes="hint")
    points = gr.Plot(show_label=False, elem_id="embedding")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    now.click(None, None, moment, js="() => document.querySelector('#player video')?.currentTime ?? 0", **private)
    seen.change(_moments, seen, [moment, first, second, status, shown, points], **private)
    done = start.click(answers.look, [seen, first, second, moment], [status, shown, points], concurrency_id="model", **private)
    stop.click(lambda: "<p>Cancelled.</p>", None, status, cancels=[done], **private)
    done.failure(lambda: failed(texts.CORNER), None, status, **private)
    gr.Button(visible=False).click(
        answers.look_inside,
        [*inputs, moment, second],
        gr.JSON(visible=False, label="Seen"),
        api_name="look_inside",
        concurrency_id="model",
    )


def _moments(seen: Seen | None) -> tuple[Any, ...]:
    """Another video: its moments, its model, and beside it one that knows the same actions, if there is one."""
    if seen is None:
        return gr.Slider(value=0), gr.skip(), gr.skip(), "", "", None
    alike = [name for name in names() if name != seen.model and classes_of(name) == seen.classes]
    best = max(seen.tubes, key=lambda tube: tube.score) if seen.tubes else None
    middle = seen.times[(best.start + best.stop) // 2] if best else 0
    slider = gr.Slider(value=round(middle, 2), maximum=max(round(seen.times[-1], 2), 0.01))
    return slider, seen.model, alike[0] if alike else "", "", "", None
