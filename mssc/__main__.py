"""The command line, ``mssc`` or ``python -m mssc``. Bad input is one sentence on standard error and exit code 2."""

import logging
import shlex
import sys
from typing import Annotated, Any, Union

log = logging.getLogger("mssc")

ABOUT = """Who does what, where, from when to when: spatio-temporal action detection with MS-SC.

For example:
    mssc detect video.mp4 -o results
    mssc detect --help"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    from .structures import InputError

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mssc").setLevel(logging.INFO)
    try:
        _parse(sys.argv[1:] if arguments is None else arguments).run()
    except InputError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(_fail("stopped."))
    except BrokenPipeError:
        sys.exit(1)


def _parse(arguments: list[str]):
    """The command, as its dataclass. Help ends the program."""
    import tyro

    from .commands import COMMANDS
    from .commands.parsing import no_such, parse
    from .structures import InputError

    name, words = (arguments or [""])[0], arguments[1:]
    if name in COMMANDS:
        return parse(COMMANDS[name], _new_form(name, words), f"mssc {name}")
    if not name.startswith("-"):
        wrong = no_such("command", name, list(COMMANDS), "mssc") if name else "mssc needs a command"
        raise InputError(f"{wrong}; there are {', '.join(COMMANDS)}, see mssc --help.")
    summaries = {name: (command.__doc__ or "").partition("\n")[0] for name, command in COMMANDS.items()}
    entries = (Annotated[one, tyro.conf.subcommand(name, description=summaries[name])] for name, one in COMMANDS.items())
    commands: Any = Union[*entries]
    return parse(commands, arguments, "mssc", ABOUT)


def _new_form(command: str, words: list[str]) -> list[str]:
    """The words as they are written now, where a data set stands without --dataset, as up to 0.1; that is said."""
    from .data.catalogue import NAMES
    from .structures import InputError

    before = {"train": 0, "check-data": 0, "evaluate": 0 if "--detections" in words else 1}.get(command)
    if before is None or "--dataset" in words:
        return words
    bare = [i for i, word in enumerate(words) if not word.startswith("-") and not (i and words[i - 1].startswith("-"))]
    found = [i for i in bare[before:] if words[i] in NAMES]
    if not found:
        return words
    if len(found) > 1:
        raise InputError(f"{' and '.join(words[i] for i in found)} cannot both be the data set; name it with --dataset.")
    new = [*words[: found[0]], "--dataset", *words[found[0] :]]
    log.warning("the data set is named with --dataset; this runs as: %s", shlex.join(["mssc", command, *new]))
    return new


def _fail(sentence: str) -> int:
    sys.stderr.write(f"mssc: {sentence}\n")
    return 2


if __name__ == "__main__":
    main()
