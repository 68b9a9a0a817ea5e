"""What is typed wrong is said in one sentence, which names what was perhaps meant."""

import shlex

import pytest

from mssc.__main__ import main
from mssc.commands import COMMANDS
from mssc.commands.parsing import parse
from mssc.structures import InputError


def refusal(words: str) -> str:
    name, *rest = shlex.split(words)
    with pytest.raises(InputError) as refused:
        parse(COMMANDS[name], rest, f"mssc {name}")
    assert "\n" not in str(refused.value) and "│" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("detect a.mp4 --modle toy", "mssc detect has no option --modle, perhaps --model is meant; see mssc detect --help."),
        ("train -o x --model.fusin=sfm", "mssc train has no option --model.fusin, perhaps --model.fusion is meant;"),
        ("detect a.mp4 -z", "mssc detect has no option -z"),
        ("train --dataset toyy -o x", "--dataset is 'toyy'; choose one of ava, custom, jhmdb, toy, ucf101-24;"),
        ("detect a.mp4 --threshold half", "--threshold is 'half'; it must be a number;"),
        ("train -o x --batch 3.4", "--batch is '3.4'; it must be a whole number;"),
        ("detect a.mp4 --threshold", "--threshold needs a value;"),
        ("evaluate jhmdb", "mssc evaluate needs --dataset {"),
        ("ablate", "mssc ablate needs TABLE, --dataset {"),
        ("figures jhmdb more --dataset toy --out", "mssc figures has no option --out, perhaps --output is meant"),
        ("export jhmdb -o x y", "'y' is one word too many for mssc export"),
    ],
)
def test_what_is_typed_wrong_is_said_in_a_sentence(words, says):
    assert refusal(words).startswith(says)


def test_right_words_make_the_command(capsys):
    command = parse(COMMANDS["detect"], ["a.mp4", "--threshold", "-1"], "mssc detect")
    assert command.threshold == -1 and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["detcet", "a.mp4"], "mssc: mssc has no command detcet, perhaps detect is meant; there are detect, check-data,"),
        ([], "mssc: mssc needs a command; there are detect,"),
        (["--hepl"], "mssc: mssc has no option --hepl, perhaps --help is meant; see mssc --help."),
        (["detect", "--hepl"], "mssc: mssc detect has no option --hepl, perhaps --help is meant; see mssc detect --help."),
    ],
)
def test_the_program_says_it_and_ends_with_2(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(says) and said.count("\n") == 1
