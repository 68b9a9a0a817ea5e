"""What the page answers: to its own scripts, and to clients."""

import html
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from ..detection.result import VideoResult
from ..files import shortened
from ..structures import InputError
from . import inside, share, texts, visits
from .detection import LOWEST, Message, check_request, work
from .limits import check_upload, without_folders
from .offer import EXAMPLES, names, offered
from .playable import make_playable

# -------------------------------------------------------------------- to the page's scripts, which tell what they want in an event


def look(event: gr.EventData, request: gr.Request) -> Any:
    """Say what was uploaded, or at once why it cannot be used."""
    key, path = event._data.get("key"), None
    try:
        path = _video(event)
        visits.note(request.session_hash, path)
        info = check_upload(path)
    except InputError as error:
        return gr.update(about={"key": key, "error": without_folders(error, path)})
    told = {
        "width": info.width,
        "height": info.height,
        "rate": float(info.rate),
        "frames": info.frames,
        "duration": info.duration,
    }
    return gr.update(about=told | {"key": key})


def find(event: gr.EventData, request: gr.Request) -> Iterator[dict[str, Any]]:
    """Work on a visitor's video with one or two models, one after the other, and tell the page how it goes.

    Yields:
        ``job``; ``runs``, one for each model that has begun, see `mssc.page.detection.work`, ``found`` as JSON; ``error``, a sentence, if
        that was the end.
    """
    job, models = str(event._data.get("job"))[:64], event._data.get("models")
    runs: list[dict[str, Any]] = []
    seen: list[VideoResult] = []
    path = None
    try:
        path = _video(event)
        for model in models if isinstance(models, list) else []:
            if visits.is_cancelled(job):
                if runs:
                    yield {"job": job, "runs": [*runs[:-1], runs[-1] | {"phase": "stopped"}]}
                return
            for message in _work(path, model, LOWEST, request.session_hash, job):
                yield {"job": job, "runs": [*runs, _sent(message.run)]}
                if message.seen:
                    runs, seen = [*runs, _sent(message.run)], [*seen, message.seen]
                    visits.keep(request.session_hash, job, seen)
    except InputError as error:
        gone = bool(path) and not Path(path).exists()
        yield {"job": job, "runs": runs, "error": without_folders(error, path), "gone": gone}


def _sent(run: dict[str, Any]) -> dict[str, Any]:
    """A message with what was found as text. Gradio sends only what has changed, and where lists in lists became shorter it says so wrongly
    (6.31): the page would show some of what was found first for what was found in the end."""
    return run | ({"found": json.dumps(run["found"])} if "found" in run else {})


def copy(event: gr.EventData, request: gr.Request) -> Any:
    """Make a copy of a visitor's video that their browser plays."""
    key, path, session, folder = event._data.get("key"), None, request.session_hash, None
    try:
        path = _video(event)
        check_upload(path)
        folder = visits.new_folder(session)
        target = folder / f"{shortened(Path(path).stem)}.mp4"
        make_playable(path, target, lambda: not visits.has_left(session))
    except InputError as error:
        return gr.update(copy={"key": key, "error": without_folders(error, path)})
    finally:
        if folder is not None and visits.has_left(session):
            visits.forget(session, folder)
    return gr.update(copy={"key": key, "path": str(target)})


def make(event: gr.EventData, request: gr.Request) -> Iterator[Any]:
    """Make what a visitor takes along, of what the page shows, and say how it goes."""
    data, session = event._data, request.session_hash
    key, folder, path = data.get("key"), None, None
    try:
        kind, off = share.check_kind(data.get("kind")), data.get("off")
        seen, threshold, moment = _found(data, session, texts.GONE)
        path = seen[0].info.path
        if not isinstance(off, list):
            raise InputError(texts.UNREAD)
        check_upload(path)
        folder = visits.new_folder(session)
        stem = share.plain(Path(path).stem) if kind in share.COLUMNS else Path(path).stem
        target = folder / f"{shortened(stem)}{share.SUFFIXES[kind]}"
        shown = [one.only(threshold, off, data.get("people") is not False) for one in seen]
        for done, total in share.make(kind, shown, moment, target, seen[0].people):
            if visits.has_left(session):
                raise InputError(texts.LEFT)
            yield gr.update(made={"key": key, "done": done, "total": total})
        caption = target.with_suffix(".tex")
        told = {"caption": caption.read_text()} if caption.exists() else {}
        yield gr.update(made={"key": key, "path": str(target), "name": target.name} | told)
        folder = None
    except InputError as error:
        yield gr.update(made={"key": key, "error": without_folders(error, path)})
    finally:
        if folder is not None:
            visits.forget(session, folder)


def look_into(event: gr.EventData, request: gr.Request) -> Iterator[Any]:
    """Look into one or two models at a moment of the video that was just worked on."""
    data = event._data
    key, path = str(data.get("key"))[:64], None
    try:
        wanted = data.get("models")
        seen, threshold, moment = _found(data, request.session_hash, "Find actions on the first tab; then look inside here.")
        path = seen[0].info.path
        if not isinstance(wanted, list):
            raise InputError(texts.UNREAD)
        for model in wanted[:2]:
            check_request(path, model)
        shown = seen[0].only(threshold)
        for found in inside.look(shown, wanted[:2], moment):
            if visits.has_left(request.session_hash) or visits.is_cancelled(key):
                return
            progress = not isinstance(found, list)
            yield gr.update(looked={"key": key} | (found._asdict() if progress else {"told": inside.pictures(found, shown)}))
    except InputError as error:
        yield gr.update(looked={"key": key, "error": without_folders(error, path)})


def _found(data: dict[str, Any], session: str | None, missing: str) -> tuple[list[VideoResult], float, float]:
    """What a visitor's job found in a video that is still there; the threshold and the moment that they ask for.

    Raises:
        InputError: `missing`, or what else is wrong.
    """
    seen, threshold, moment = visits.kept(session, str(data.get("job"))), data.get("threshold"), data.get("moment")
    if not seen:
        raise InputError(missing)
    if not seen[0].info.path.exists():
        raise InputError(texts.GONE)
    if not (isinstance(threshold, int | float) and isinstance(moment, int | float)):
        raise InputError(texts.UNREAD)
    return seen, threshold, moment


def cancel(event: gr.EventData) -> None:
    """End a job at its next step; what it has found until then is kept."""
    visits.cancel(event._data.get("job"))


def _video(event: gr.EventData) -> str:
    """The video that an event is about: the visitor's own upload, or an example.

    Raises:
        InputError: for any other file.
    """
    path, example = event._data.get("path"), event._data.get("example")
    if isinstance(example, str) and example in (file.name for file in EXAMPLES.glob("*.mp4")):
        return str(EXAMPLES / example)
    if not path:
        raise InputError("Choose or record a video first.")
    if not isinstance(path, str) or not visits.is_upload(path):
        raise InputError("This file was not uploaded here.")
    return path


# -------------------------------------------------------------------- to clients


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
        *_, last = _work(video, model, threshold, request.session_hash, drawn=True)
    except InputError as error:
        raise refusal(error, video) from None
    assert last.result is not None
    file = Path(last.run["json"])
    file.unlink()  # it is what is answered
    return last.result, str(file.with_suffix(".mp4")), str(file.with_suffix(".csv"))


def refusal(error: InputError, video: str | None) -> gr.Error:
    """The error as the API tells it."""
    sentence = html.escape(without_folders(error, video), quote=False)
    return gr.Error(sentence, duration=None, title="That did not work", print_exception=False)


def _work(
    video: str | None, model: str, threshold: float, session: str | None, job: str = "", drawn: bool = False
) -> Iterator[Message]:
    """`work` for a visitor: in a folder of its own, which goes if there is no result; it ends early if the visitor leaves."""
    check_request(video, model)
    folder, complete = visits.new_folder(session), False
    try:
        for message in work(str(video), model, threshold, str(folder), drawn):
            if visits.has_left(session):
                raise InputError(texts.LEFT)
            if visits.is_cancelled(job):
                with suppress(FileNotFoundError):  # a visitor who has left meanwhile took it along
                    (folder / "stop").touch()
            complete = message.result is not None
            yield message
    except InputError as error:
        raise InputError(without_folders(error, folder / "result")) from None
    finally:
        if not complete or visits.has_left(session):
            visits.forget(session, folder)


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
    last = None
    try:
        check_request(video, model)
        if not all(isinstance(one, int | float) for one in (threshold, moment)):
            raise InputError("Threshold and moment must be numbers: a score, and seconds.")
        *_, last = _work(video, model, threshold, request.session_hash)
        assert last.seen is not None
        *_, found = inside.look(last.seen, [model, *([second_model] if second_model else [])], moment)
        assert isinstance(found, list)
        return inside.numbers(found, last.seen)
    except InputError as error:
        raise refusal(error, video) from None
    finally:
        if last is not None:
            visits.forget(request.session_hash, Path(last.run["json"]).parent)


def models() -> list[dict]:
    """The models on offer: their names, usual thresholds, actions and licences."""
    return [offered(name) for name in names()]
