"""Old names of modules."""

import importlib
import sys

import pytest

import mssc
from mssc.video import drawing


@pytest.mark.parametrize("name", mssc.MOVED)
def test_a_module_is_found_under_its_old_name_with_a_warning(name, monkeypatch):
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=mssc.MOVED[name]):
        old = importlib.import_module(name)
    new = importlib.import_module(mssc.MOVED[name])
    public = [one for one in vars(new) if not one.startswith("_")]
    assert public and all(getattr(old, one) is getattr(new, one) for one in public)


def test_old_scripts_draw_on():
    from mssc.visualise import draw  # type: ignore[import-not-found]

    assert draw is drawing.draw
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mssc.never_was")
