"""``python -m mssc detect | check-data | import-annotations | train | evaluate | figures | ablate``.

Bad input is one sentence on standard error and exit code 2.
"""

import logging
import sys


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    import tyro

    from .commands import COMMANDS
    from .structures import InputError

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mssc").setLevel(logging.INFO)
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m mssc", description=__doc__, args=arguments)
    try:
        command.run()
    except InputError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(_fail("stopped."))
    except BrokenPipeError:
        sys.exit(1)


def _fail(sentence: str) -> int:
    sys.stderr.write(f"mssc: {sentence}\n")
    return 2


if __name__ == "__main__":
    main()
