"""The page: give it a video, see who does what, where, and from when to when.

python app.py [--port 7860] [--model runs/mine/model]
"""

import argparse
import html
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported: the page reports to nobody

import gradio as gr

from mssc import detect, visualise
from mssc.model.checkpoint import load_config
from mssc.structures import InputError

MAX_UPLOAD = "500 MB"
MAX_WAITING = 16  # people in the queue; the next one is told to come back later
KEEP_SECONDS = 3600  # uploads and results older than this are deleted
# More pixels only slow the browser's encoder down, and nobody's voice is needed.
WEBCAM = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}, "frameRate": {"ideal": 30}}, "audio": False}
COLUMNS = ["Actor", "Action", "Score", "From (s)", "To (s)", "Frames"]
INTRO = f"""# Who does what, where and when?
MS-SC watches a video and finds **action tubes**: a box that follows somebody for as long as an action lasts.
Upload a clip (up to {MAX_UPLOAD}) or record yourself. It stays on this server and is deleted after about an hour."""
CSS = """
video {max-height: 65vh}
.pending {opacity: 0 !important}  /* the text under the progress bar */
@media (max-width: 640px) {.wrap:has(.progress-level) .meta-text-center {display: none}}  /* no room beside the bar */
button[title^="Trim video"] {display: none}  /* it would load a program from another site */
.js-plotly-plot :is(.xtick, .ytick, .g-xtitle) text {fill: var(--body-text-color) !important}
"""
# The machine's own fonts, so that none is fetched; a blue that is dark enough for white text.
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700"
)
LAUNCH = {
    "theme": THEME,
    "css": CSS,
    "max_file_size": MAX_UPLOAD,
    "share": False,
    "ssr_mode": False,
    "run_history": False,  # it would keep visitors' videos in the browser and point to files that are deleted here
    "footer_links": ["api", "settings"],
}


OWN: dict[str, Path] = {}
"""Models that were named on the command line: names on the page, and folders, which the page does not show."""


def add_model(folder: Path) -> str:
    """Offer a model on the page, beside those that ship.

    Returns:
        Its name there: that of the folder, or of the run if the folder is a run's ``model``.

    Raises:
        InputError: if the folder holds no model.
    """
    load_config(folder)
    folder = folder.resolve()
    name = folder.parent.name if folder.name == "model" else folder.name
    OWN[name] = folder
    return name


def about(model: str) -> tuple[float, str]:
    """A model's usual threshold, and a sentence on what it can recognise."""
    classes = load_config((detect.available_models() | OWN)[model]).classes
    names = ", ".join(visualise.title(name) for name in classes)
    return round(detect.default_threshold(OWN.get(model, model)), 2), f"Recognises {len(classes)} actions: {html.escape(names)}."


def describe(result: "detect.VideoResult") -> str:
    """What was found, by which model, and how fast, in Markdown."""
    found, people = len(result.tubes), len(set(visualise.actors(result.tubes)))
    lines = [f"### Found {found} action{'s' * (found != 1)} by {people} actor{'s' * (people != 1)}"]
    if not found:
        lines = [
            "### No action found",
            f"Nothing scored {result.threshold:.2f} or more. Lower the threshold, or try a clip of an action that it knows.",
        ]
    speed = f"{len(result.times)} frames at **{result.frames_per_second:.0f} frames per second**"
    stages = ", ".join(f"{html.escape(stage)} {seconds:.2f} s" for stage, seconds in result.timings.items())
    return "\n\n".join(
        [*lines, f"Model **{html.escape(result.model)}**, threshold {result.threshold:.2f}, {speed}.", f"*Time: {stages}.*"]
    )


def table(result: "detect.VideoResult") -> list[list]:
    """A row for each tube, in the order in which they start."""
    rows = []
    for tube, actor in zip(result.tubes, visualise.actors(result.tubes), strict=True):
        start, stop = visualise.span(tube, result.info.rate, result.times)
        name = visualise.title(result.classes[tube.label])
        rows.append([actor, name, round(tube.score, 2), round(start, 2), round(stop, 2), f"{tube.start} to {tube.stop - 1}"])
    return sorted(rows, key=lambda row: (row[3], row[0]))


def find_actions(video: str | None, model: str, threshold: float, progress: gr.Progress = gr.Progress()) -> Iterator[tuple]:  # noqa: B008
    """Find the action tubes of a video.

    Args:
        video: the video file.
        model: the name of a model.
        threshold: tubes that score less are left out, 0 to 1.

    Returns:
        A summary in Markdown, the video with boxes drawn (MP4), the timeline, the table of tubes, and everything as JSON.
    """
    if video is None:
        raise gr.Error("Upload or record a video first.", title="No video yet", print_exception=False)

    def report(done: int, total: int | None, text: str) -> None:
        progress((done, total and max(done, total)), desc=text, unit="frames")  # a file's own count may be wrong

    progress(0, desc="Waking the model")
    # Gradio copies what is yielded before it comes back here, and then the folder goes, also after an error.
    with tempfile.TemporaryDirectory(prefix="mssc-result-") as folder:
        target = Path(folder, f"{Path(video).stem}-actions.mp4")
        try:
            chosen = OWN.get(model, model)
            result = detect.detect_video(video, model=chosen, threshold=threshold, output=target, progress=report)
            result.write_json(target.with_suffix(".json"))
        except InputError as error:
            sentence = str(error).replace(f"{Path(video).parent}{os.sep}", "").replace(f"{folder}{os.sep}", "")  # our folders
            raise gr.Error(
                html.escape(sentence, quote=False), duration=None, title="That did not work", print_exception=False
            ) from None
        timeline = visualise.timeline(result.tubes, result.classes, result.info.rate, len(result.times), result.times)
        yield describe(result), str(target), timeline, table(result), str(target.with_suffix(".json"))


def build(model: str | None = None) -> gr.Blocks:
    """The page, ready to launch.

    Args:
        model: the name of the one to begin with; None for the default.

    Raises:
        InputError: if there is no model.
    """
    model = model or detect.default_model()
    threshold, knows = about(model)
    with gr.Blocks(title="MS-SC: action tubes", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                # Both sources, with sound, unmirrored, as they come: anything else needs ffmpeg on the machine.
                video = gr.Video(
                    label="Your video",
                    sources=["upload", "webcam"],
                    webcam_options=gr.WebcamOptions(mirror=False, constraints=WEBCAM),
                )
                choice = gr.Dropdown(sorted(detect.available_models() | OWN), value=model, label="Model")
                known = gr.Markdown(knows)
                slider = gr.Slider(
                    0.01, 0.99, threshold, step=0.01, label="Threshold", info="Lower finds more, and more that is wrong."
                )
                start = gr.Button("Find actions", variant="primary", size="lg")
            with gr.Column(scale=3, min_width=320):
                status = gr.Markdown("The result will appear here.", min_height=120)
                with gr.Column(visible=False) as results:
                    drawn = gr.Video(label="Actions found", interactive=False, autoplay=True, loop=True)
                    timeline = gr.Plot(label="Timeline", show_label=False)
                    rows = gr.Dataframe(headers=COLUMNS, label="Action tubes", interactive=False)
                    download = gr.DownloadButton("Download as JSON")
        choice.change(about, choice, [slider, known], api_visibility="private")
        outputs = [status, drawn, timeline, rows, download]
        done = start.click(
            find_actions, [video, choice, slider], outputs, api_name="detect", show_progress_on=status, scroll_to_output=True
        )
        done.success(lambda: gr.Column(visible=True), None, results, api_visibility="private")
        # An older result must not stand beside the error of a newer video.
        done.failure(
            lambda: ("No result: the message in the corner says why.", gr.Column(visible=False)),
            None,
            [status, results],
            api_visibility="private",
        )
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until it is stopped; every file made meanwhile lies in one folder and goes with it."""
    parser = argparse.ArgumentParser(description="Find action tubes in videos, in the browser.")
    parser.add_argument("--port", type=int, help="of the page; the first free one from 7860 on if not given")
    parser.add_argument("--model", type=Path, help="folder of a model to offer first, such as runs/mine/model")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leave through the `with` below
    with tempfile.TemporaryDirectory(prefix="mssc-") as folder:
        tempfile.tempdir = folder  # Gradio's uploads and cache as well
        try:
            build(add_model(options.model) if options.model else None).launch(server_port=options.port, **LAUNCH)
        except (InputError, OSError) as error:  # no model, no free port
            parser.error(str(error))
        finally:
            tempfile.tempdir = None


if __name__ == "__main__":
    main()
