"""What the page answers: to its own buttons, and to clients."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..structures import InputError
from . import inside, texts, visits
from .detection import Message, Seen, check_request, failed, work
from .limits import check_upload, clock, without_folders
from .offer import classes_of, names, threshold_of


def look_at_upload(video: str | None, request: gr.Request) -> str:
    """Say what was uploaded, or at once why it cannot be used."""
    if not video:
        return texts.START
    visits.note(request.session_hash, video)
    try:
        info = check_upload(video)
    except InputError as error:
        return failed(without_folders(error, video))
    length = f"{clock(info.duration)}, " if info.duration else ""
    return f"<p>{html.escape(Path(video).name)}: {length}{info.width}x{info.height}, {float(info.rate):.4g} frames a second.</p>"


def find_actions(video: str | None, model: str, threshold: float, request: gr.Request) -> Iterator[tuple[Any, Any, Any]]:
    """Work on a visitor's video, and tell status and player how it goes."""
    visits.note(request.session_hash, video)
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
    visits.note(session, None)
    check_request(video, model)
    folder, complete = visits.new_folder(session), False
    try:
        for message in work(str(video), model, threshold, str(folder)):
            if visits.has_left(session):
                raise InputError(texts.LEFT)
            complete = message.result is not None
            yield message
    except InputError as error:
        raise InputError(without_folders(error, folder / "result")) from None
    finally:
        if not complete or visits.has_left(session):
            visits.forget(session, folder)


def look(seen: Seen | None, model: str, second: str | None, moment: float) -> Iterator[tuple[Any, Any, Any]]:
    """Look into one or two models at a moment of the video that was just worked on."""
    if seen is None:
        yield failed("Find actions on the first tab; then look inside here."), "", None
        return
    try:
        for found in inside.look(seen, [model, *([second] if second in names() else [])], moment):
            if isinstance(found, str):
                yield found, gr.skip(), gr.skip()
            else:
                yield "", inside.page_of(found, seen), inside.embedding_of(found, seen)
    except InputError as error:
        yield failed(without_folders(error, seen.path)), "", None


def look_inside(
    video: str | None, model: str, threshold: float, moment: float, second_model: str | None, request: gr.Request
) -> dict:
    """What MSM and SFM do at a moment of a video, and how far MSM moves action features away from background features in it.

    Args:
        video: the video file.
        model: the name of the model that finds the actors, and is looked into.
        threshold: tubes of at least this score serve as action boxes, 0 to 1.
        moment: in seconds.
        second_model: the name of another model to look into, for comparison.

    Returns:
        The frame that was looked at; for each model its gain, how much stronger each map is inside the boxes, and the distances of action
        and background before and after MSM.
    """
    try:
        check_request(video, model)
        *_, seen = inside.find(str(video), model, threshold)
        assert isinstance(seen, Seen)
        *_, found = inside.look(seen, [model, *([second_model] if second_model else [])], moment)
        assert not isinstance(found, str)
        return inside.numbers(found, seen)
    except InputError as error:
        raise refusal(error, video) from None


def models() -> list[dict]:
    """The models on offer: their names, usual thresholds and the actions that they know."""
    return [{"name": name, "threshold": threshold_of(name), "actions": list(classes_of(name))} for name in names()]
