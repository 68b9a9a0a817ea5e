"""From words to a command's dataclass. What tyro refuses in a box is said in one sentence, with the way out."""

import contextlib
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from ..structures import InputError
from .options import CONFIG


def parse(command: Any, words: Sequence[str], prog: str, description: str | None = None) -> Any:
    """The command that words ask for. ``--help`` prints and ends the program.

    Args:
        command: a dataclass, or a union of some.
        words: after the program's name.
        prog: that name.
        description: above the help, where the command has none of its own.

    Raises:
        InputError: for an option, a value or a number of words that it does not take.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(command, prog=prog, description=description, args=words, config=CONFIG)
    except SystemExit as end:
        if not end.code:
            raise
        unknown = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        known = _options(command, prog)
        unknown = [word for word in unknown if word.replace("_", "-") not in known]
        reason = no_such("option", unknown[0], known, prog) if unknown else _reason(said.getvalue(), prog)
        raise InputError(f"{reason}; see {prog} --help.") from None


def no_such(kind: str, word: str, known: Sequence[str], prog: str) -> str:
    """What to say of a word that is not known, with the one that was perhaps meant."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"{prog} has no {kind} {word}" + (f", perhaps {close[0]} is meant" if close else "")


def _options(command: Any, prog: str) -> list[str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        tyro.cli(command, prog=prog, args=["--help"], config=CONFIG)
    return list(dict.fromkeys(re.findall(r"(?<![\w-])--?[a-zA-Z][\w.-]*", shown.getvalue())))


def _reason(box: str, prog: str) -> str:
    """The first part of tyro's box, in our words where it is of the usual kinds."""
    lines = [line.strip("│╭╮╰╯").rstrip() for line in box.splitlines()[1:-1]]
    end = next((place for place, line in enumerate(lines) if line.strip().startswith("─")), len(lines))
    text = " ".join(line.strip() for line in lines[:end])
    if wrong := re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", text, re.IGNORECASE):
        choices = ", ".join(sorted(choice for choice in re.findall(r"'([^']*)'", wrong[3]) if choice != "None"))
        return f"{wrong[2]} is {wrong[1]!r}; choose one of {choices}"
    if wrong := re.match(r"Error parsing (\S+): .*?'([^']*)'", text):
        kind = "a whole number" if "int()" in text else "a number" if " FLOAT " in text else "another value"
        return f"{wrong[1]} is {wrong[2]!r}; it must be {kind}"
    if text.startswith("Missing from"):
        needed = [line.strip().partition(", -")[0] for line in lines[:end] if re.match(r" {5}\S", line)]
        return f"{prog} needs {', '.join(needed)}"
    if wrong := re.match(r"Missing value for argument '(\S+)'", text):
        return f"{wrong[1]} needs a value"
    if wrong := re.match(r"Unrecognized options: ([^,]+)", text):
        return f"{wrong[1]!r} is one word too many for {prog}"
    return text[:1].lower() + text[1:].rstrip(".")
