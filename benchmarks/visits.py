"""Visits to the page that end at random moments: whatever a visitor does, no false error is shown and nothing is left behind.

    python benchmarks/visits.py [--visits 200] [--seed 0] [--first 0] [--model toy] [--video video.mp4]

Each visitor opens the page in a headless Chromium, gives it a video, begins, and after a random while cancels, closes the tab, takes
another video, closes the tab in the middle of a share, or stays to the end. After each, its files must go; every ten visits a line
tells of the server's memory. Prints Markdown; finds are printed at once. Exit code 1 with finds, or with memory that grows.
"""

import argparse
import os
import random
import shutil
import statistics
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playwright.sync_api import Page, ViewportSize, sync_playwright

from mssc import page
from mssc.page import visits
from mssc.page.offer import EXAMPLES

ENDS = {"cancel": 10, "close": 4, "another video": 3, "share": 2, "stay": 1}  # and how often each is
LONGEST = 4.0  # seconds until a visitor changes their mind
PATIENCE = 60.0  # seconds for what must happen
GROWTH = 1.1  # of the memory's median, from the second quarter of the visits to the last
SIZES = (ViewportSize(width=1400, height=900), ViewportSize(width=390, height=844))


def eventually(what, seconds: float = PATIENCE) -> bool:
    """Whether it happens in time."""
    ends = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def own(video: bytes, number: int) -> bytes:
    """The same video as a file of its own: uploads of the same content share one."""
    return video + struct.pack(">I4sQ", 16, b"free", number)


def visit(tab: Page, number: int, video: bytes, model: str, dice: random.Random) -> tuple[str, list[str]]:
    """One visitor, up to their end.

    Returns:
        How it ended, and what was wrong.
    """
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(f"the page's script failed: {error.stack or error}"))
    end = dice.choices(list(ENDS), list(ENDS.values()))[0]

    def give(name: str) -> None:
        tab.set_input_files(
            "#upload input", {"name": name, "mimeType": "video/mp4", "buffer": own(video, zlib.crc32(name.encode()))}
        )

    tab.wait_for_selector("#start")
    tab.select_option("#model", model)
    give(f"visit-{number}-.mp4")
    tab.wait_for_timeout(dice.choice([0, 300]))
    tab.click("#start")
    if end in ("share", "stay"):
        tab.wait_for_selector("#detect .files:visible", timeout=1000 * PATIENCE)
    if end == "share":
        tab.click("#detect [data-make=whole]")
    if end != "stay":
        tab.wait_for_timeout(1000 * LONGEST * dice.random() ** 2)
    if end == "cancel" and tab.is_visible("#cancel"):
        try:
            tab.click("#cancel", timeout=500)
        except Exception:  # the end came first
            end = "cancel, too late"
        if not eventually(lambda: tab.is_enabled("#start") and tab.is_hidden("#cancel")):
            wrong.append(f"a cancel did not end: {tab.inner_text('#status')!r}")
        elif end == "cancel" and "Cancelled" not in (said := tab.inner_text("#status")) and "frames at" not in said:
            wrong.append(f"after a cancel the page says {said!r}")
    if end == "another video":
        give(f"visit-{number}-another.mp4")
        tab.wait_for_function("document.querySelector('#status').innerText.includes('frames a second')")
        if tab.is_visible("#detect .result") or tab.is_visible("#cancel"):
            wrong.append("another video left the old result")
    if tab.is_visible("#detect .failed") or tab.locator(".toast-body").count():
        wrong.append(f"a false error: {tab.inner_text('#status')!r}, {tab.locator('.toast-body').all_inner_texts()}")
    return end, wrong


def files(folder: str, start: str = "") -> list[str]:
    """Files below a folder whose names begin so; folders may go meanwhile."""
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.startswith(start)]


def memory() -> float:
    """Of this process, megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Visit as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="visit to begin with: visit n is the same in every run of a seed, but for time"
    )
    parser.add_argument("--model", default="toy")
    parser.add_argument("--video", type=Path, default=EXAMPLES / "toy-two.mp4", help="an MP4")
    options = parser.parse_args()
    video, finds, ends, taken = options.video.read_bytes(), 0, Counter(), []
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory(prefix="mssc-") as folder:
        tempfile.tempdir = folder
        visits.GRACE_SECONDS = 0.0  # what is left behind is looked for at once
        blocks = page.build(options.model)
        _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **page.LAUNCH)
        page.ready(options.model)
        print("| visits | memory (MB) | files left |\n|---|---|---|")
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for number in range(options.first, options.first + options.visits):
                dice = random.Random(f"{options.seed} {number}")
                context = browser.new_context(viewport=dice.choice(SIZES))
                tab = context.new_page()
                tab.goto(address)
                end, wrong = visit(tab, number, video, options.model, dice)
                ends[end] += 1
                context.close()
                if not eventually(lambda number=number: not files(folder, f"visit-{number}-")):
                    wrong.append(f"left behind: {files(folder, f'visit-{number}-')}")
                for what in wrong:
                    print(f"visit {number} ({end}): {what}", flush=True)
                finds += len(wrong)
                taken.append(memory())
                if number % 10 == 9:
                    print(f"| {number + 1} | {taken[-1]:.0f} | {len(files(folder))} |", flush=True)
            browser.close()
        blocks.close()
        tempfile.tempdir = None
    quarter = max(len(taken) // 4, 1)
    before, after = statistics.median(taken[quarter : 2 * quarter] or taken), statistics.median(taken[-quarter:])
    print(f"\n{dict(ends)}; {finds} finds; memory {before:.0f} MB in the second quarter, {after:.0f} MB in the last.")
    return int(finds > 0 or after > GROWTH * before)


if __name__ == "__main__":
    sys.exit(main())
