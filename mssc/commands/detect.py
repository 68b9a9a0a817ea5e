"""``python -m mssc detect``: videos in, action tubes out."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from ..structures import InputError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"}
log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Detect:
    """Find the action tubes of videos: an annotated MP4, a JSON and a CSV for each."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, or folders of them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("outputs")
    """Folder for the results."""
    model: str = "default"
    """Name of a model that ships, or a model's folder."""
    threshold: float | None = None
    """Report tubes of at least this score, 0 to 1; the model's own if not given."""
    draw: bool = True
    """Write the annotated video."""

    def run(self) -> None:
        """Each video by itself: a bad one is named at the end and does not stop the others."""
        from ..detection.pipeline import detect_video, load_for_detection

        files = _video_files(self.videos)
        load_for_detection(self.model)
        names = Counter(file.stem for file in files)
        failed: list[str] = []
        for file in files:
            stem = file.stem if names[file.stem] == 1 else f"{file.parent.name}-{file.name}"
            target = self.output / stem
            with tqdm(desc=file.name, unit="frame", dynamic_ncols=True) as bar:
                try:
                    result = detect_video(
                        file,
                        self.model,
                        self.threshold,
                        target.with_name(f"{stem}.mp4") if self.draw else None,
                        lambda done, total, stage, bar=bar: _show(bar, done, total, stage),
                    )
                    result.write_json(target.with_name(f"{stem}.json"))
                    result.write_csv(target.with_name(f"{stem}.csv"))
                except InputError as error:
                    failed.append(str(error))
                    continue
            for row in result.to_json()["tubes"]:
                log.info(
                    "  actor %d: %s %.2f, %.2f to %.2f s",
                    row["actor"],
                    row["action"],
                    row["score"],
                    row["start_seconds"],
                    row["end_seconds"],
                )
            found = len(result.tubes)
            said = f"{found} action tube{'s' * (found != 1)}" if found else f"no action found at threshold {result.threshold:g}"
            log.info("%s: %s, %.0f frames a second, in %s.*", file, said, result.frames_per_second, target)
        if failed:
            raise InputError("\n".join([f"{len(failed)} of {len(files)} videos failed:", *failed] if len(files) > 1 else failed))


def _show(bar: tqdm, done: int, total: int | None, stage: str) -> None:
    if done < bar.n:  # the next stage begins
        bar.reset()
    bar.total = max(total, done) if total else None
    bar.set_postfix_str(stage, refresh=False)
    bar.update(done - bar.n)


def _video_files(given: tuple[Path, ...]) -> list[Path]:
    if not given:
        raise InputError("no video was named; give video files or folders of them.")
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            if not inside:
                raise InputError(
                    f"the folder {path} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))}); name the files themselves."
                )
            files += inside
        else:
            files.append(path)
    return files
