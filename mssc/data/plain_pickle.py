"""Read a pickle of arrays and plain containers without running what it may hold."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ..files import undamaged
from ..structures import InputError


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """What NumPy's arrays call in pickles of protocol 2: text back to bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise InputError(f"the pickle asks for the encoding {encoding!r}; only latin1 is read.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What an empty array calls in pickles of protocol 2."""
    return b""


_RECONSTRUCT = np.zeros(1).__reduce__()[0]  # its module was renamed in NumPy 2, the function stayed
_SCALAR = np.float64(0).__reduce__()[0]
_FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]  # protocol 5
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise InputError(f"the pickle asks for {module}.{name}; only NumPy arrays and plain containers are read.") from None


def load(path: Path) -> Any:
    """What a pickle of Python 2 or 3 holds, if that is arrays, numbers, strings, lists, tuples and dictionaries.

    Raises:
        InputError: for a missing or damaged file, and for anything else in it, named; nothing of it is executed.
    """
    with undamaged(path, "fetch it again"), open(path, "rb") as file:
        return _Unpickler(file, encoding="latin1").load()
