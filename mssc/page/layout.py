"""The page: tabs, texts, and which button does what."""

import html
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..structures import InputError
from . import visits
from .detection import Message, check_request, failed, work
from .limits import KEEP_SECONDS, LIMITS, MAX_WAITING, check_upload, clock, without_folders
from .offer import about, names, threshold_of
from .player import component

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "assets" / "examples"
EXAMPLE_MODEL = "toy"
# More pixels only slow the browser's encoder down, and nobody's voice is needed.
WEBCAM = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}, "frameRate": {"ideal": 30}}, "audio": False}
INTRO = """# Who does what, where and when?
MS-SC watches a video and finds **action tubes**: a box that follows somebody for as long as an action lasts. It runs on a plain processor,
frame by frame. Your video stays on this server, nobody else sees it, and it is deleted when you close the page."""
FOOTER = """MS-SC re-implements the *Motion Sense and Semantic Correction* framework (ICASSP 2024) from its poster. The model on people is
trained on J-HMDB: 21 everyday actions in short clips, so expect mistakes elsewhere. The toy model knows six movements of drawn figures."""
CSS = """
.gradio-container {max-width: 1280px !important}
#upload video {max-height: 40vh}
button[title^="Trim video"] {display: none}  /* it would load a program from another site */
.status h3 {margin: 0 0 .3rem} .status p {margin: .2rem 0}
.status progress {width: 100%; height: .7rem; accent-color: var(--color-accent)}
.status .failed {border-left: 5px solid #c2410c; padding: .3rem .9rem}
.js-plotly-plot :is(.xtick, .ytick, .g-xtitle, .infolayer) text {fill: var(--body-text-color) !important}
.hint, .hint p {color: var(--body-text-color-subdued); font-size: .9rem}
footer {flex-wrap: wrap}
"""
# The machine's own fonts, so that none is fetched; a blue that is dark enough for white text.
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
)
START = "<p>Choose a video, then press <b>Find actions</b>.</p>"


# -------------------------------------------------------------------- what buttons do


def look_at_upload(video: str | None, request: gr.Request) -> str:
    """Say what was uploaded, or at once why it cannot be used."""
    if not video:
        return START
    visits.note(request.session_hash, video)
    try:
        info = check_upload(video)
    except InputError as error:
        return failed(without_folders(error, video))
    length = f"{clock(info.duration)}, " if info.duration else ""
    return f"<p>{html.escape(Path(video).name)}: {length}{info.width}x{info.height}, {float(info.rate):.4g} frames a second.</p>"


def find_actions(video: str | None, model: str, threshold: float, request: gr.Request) -> Iterator[tuple[Any, Any, Any]]:
    """Work on a visitor's video, and tell status and player how it goes."""
    try:
        for message in _work(video, model, threshold, request.session_hash):
            yield message.status, gr.skip() if message.player is None else message.player, message.seen
    except InputError as error:
        yield failed(without_folders(error, video)), None, None


def detect(video: str | None, model: str, threshold: float, request: gr.Request) -> tuple[dict, str, str]:
    """Find the action tubes of a video: who does what, where, from when to when.

    Args:
        video: the video file, up to 5 minutes and 500 MB.
        model: the name of a model; see the endpoint `models`.
        threshold: tubes that score less are left out, 0 to 1.

    Returns:
        What was found (classes, scores, times, the box of every frame); the video with boxes drawn, MP4; a table of the tubes, csv.
    """
    try:
        *_, last = _work(video, model, threshold, request.session_hash)
    except InputError as error:
        raise refusal(error, video) from None
    assert last.result is not None and last.player is not None
    return last.result, *(last.player["files"][kind]["path"] for kind in ("mp4", "csv"))


def refusal(error: InputError, video: str | None) -> gr.Error:
    """The error as the API tells it."""
    sentence = html.escape(without_folders(error, video), quote=False)
    return gr.Error(sentence, duration=None, title="That did not work", print_exception=False)


def _work(video: str | None, model: str, threshold: float, session: str | None) -> Iterator[Message]:
    """`work` for a visitor: in a folder of its own, which goes if there is no result; it ends early if the visitor leaves."""
    visits.note(session, video)
    check_request(video, model)
    folder, complete = visits.new_folder(session), False
    try:
        for message in work(str(video), model, threshold, str(folder)):
            if visits.has_left(session):
                raise InputError("You left before the end.")
            complete = message.result is not None
            yield message
    except InputError as error:
        raise InputError(without_folders(error, folder / "result")) from None
    finally:
        if not complete or visits.has_left(session):
            visits.forget(session, folder)


def models() -> list[dict]:
    """The models on offer: their names, usual thresholds and the actions that they know."""
    from .offer import classes_of

    return [{"name": name, "threshold": threshold_of(name), "actions": list(classes_of(name))} for name in names()]


# -------------------------------------------------------------------- how it looks


def build(model: str) -> gr.Blocks:
    """The page, ready to launch.

    Args:
        model: the name of the one to begin with.
    """
    with gr.Blocks(title="MS-SC: action tubes", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown(INTRO)
        seen = gr.State(None)
        with gr.Tab("Detect"):
            video = _detect_tab(model, seen)
        gr.Markdown(FOOTER + _notebooks(), elem_classes="hint")
        gr.Button(visible=False).click(models, None, gr.JSON(visible=False), api_name="models", queue=False)
        page.unload(_leave)
    del video
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


def _detect_tab(model: str, seen: gr.State) -> gr.Video:
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
            examples = sorted(EXAMPLES.glob("*.mp4")) if EXAMPLE_MODEL in names() else []
            buttons = []
            if examples:
                with gr.Row():
                    for number, file in enumerate(examples, 1):
                        text = "Try a generated example" if len(examples) == 1 else f"Generated example {number}"
                        buttons.append((gr.Button(text, size="sm"), file))
            choice = gr.Dropdown(names(), value=model, label="Model", elem_id="model")
            known = gr.Markdown(knows, elem_classes="hint")
            slider = gr.Slider(
                0.01, 0.99, threshold, step=0.01, label="Threshold", info="Lower finds more, and more that is wrong."
            )
            with gr.Row():
                start = gr.Button("Find actions", variant="primary", size="lg", elem_id="start")
                stop = gr.Button("Cancel", variant="stop", size="lg", visible=False, elem_id="cancel")
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(START, elem_classes="status", elem_id="status")
            player = component("player")
    private: dict[str, Any] = {"api_visibility": "private"}
    choice.input(about, choice, [slider, known], **private)
    for button, file in buttons:
        button.click(
            lambda file=file: (str(file), EXAMPLE_MODEL, *about(EXAMPLE_MODEL)), None, [video, choice, slider, known], **private
        )
    video.change(look_at_upload, video, status, show_progress="hidden", **private)
    working = {
        True: lambda: (gr.Button(interactive=False), gr.Button(visible=True)),
        False: lambda: (gr.Button(interactive=True), gr.Button(visible=False)),
    }
    begun = start.click(lambda: (None, *working[True]()), None, [player, start, stop], show_progress="hidden", **private)
    done = begun.then(
        find_actions,
        [video, choice, slider],
        [status, player, seen],
        show_progress="minimal",
        show_progress_on=status,
        concurrency_id="model",
        scroll_to_output=True,
        **private,
    )
    done.then(working[False], None, [start, stop], show_progress="hidden", **private)
    done.failure(lambda: failed("The message in the corner says why."), None, status, show_progress="hidden", **private)
    stop.click(
        lambda: ("<p>Cancelled. Nothing was kept.</p>", None, *working[False]()),
        None,
        [status, player, start, stop],
        cancels=[done],
        show_progress="hidden",
        **private,
    )
    gr.Button(visible=False).click(
        detect,
        [video, choice, slider],
        [
            gr.JSON(visible=False, label="Found"),
            gr.File(visible=False, label="Video with boxes"),
            gr.File(visible=False, label="Table"),
        ],
        api_name="detect",
        concurrency_id="model",
    )
    return video
