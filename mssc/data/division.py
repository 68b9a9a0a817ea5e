"""A validation part that shares no source video with the training part."""

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from ..structures import InputError

log = logging.getLogger(__name__)

SHARE = 0.2  # of every class goes to validation
LEAST = 2  # videos of a class in validation, where it has three times as many; else one
RESTARTS = 16  # orders tried; the best by far beats the average one, more change little


def _category(name: str) -> str:
    return name.rpartition("/")[0]


def sources(names: Sequence[str]) -> list[list[str]]:
    """Groups names of the form ``<class>/<title>_<class>_<details>_<number>`` by the video that they were cut from.

    Two clips share a source if they have the same title, or the same name up to the last ``_<number>``, or if a chain of such
    pairs joins them. Titles are compared across classes, without case, punctuation and the number of a part at their end
    ("A_Beautiful_Mind_3" and "…_4" are one film). A name without ``_<class>_`` has the second relation only.

    Returns:
        The groups, in the order of their first names.
    """
    from scipy.cluster.hierarchy import DisjointSet  # slow to import

    joined = DisjointSet(names)
    first: dict[tuple[str, str], str] = {}
    for name in names:
        category, clip = _category(name), name.rpartition("/")[2]
        title, found, _ = clip.rpartition(f"_{category}_")
        keys = [("stem", re.sub(r"_\d+$", "", clip).casefold())]
        plain = re.sub(r"[\W_]", "", re.sub(r"_\d+$", "", title).casefold())
        if found and plain:
            keys.append(("title", plain))
        for key in keys:
            joined.merge(first.setdefault(key, name), name)
    groups = defaultdict(list)
    for name in names:
        groups[joined[name]].append(name)
    return list(groups.values())


def divide(names: Sequence[str]) -> set[str]:
    """Chooses the names that go to validation: whole sources, and close to a fifth of every class.

    The groups of `sources` are visited in a pseudo-random order, and each is taken or given back as long as that brings the
    classes closer to their targets (sum of squared differences). The best of 16 orders counts. The orders come from a hash
    of the names, so that the result depends on the names only, not on a library's version.

    Args:
        names: ``<class>/<clip>``.

    Returns:
        At least 2 names of every class of 6 or more, 1 of smaller ones, and never all of one, if its sources allow it; else none of that
        class, logged.

    Raises:
        InputError: if no class can be divided.
    """
    groups = [(sorted(group)[0], Counter(_category(name) for name in group), group) for group in sources(names)]
    total = Counter(_category(name) for name in names)
    target = {c: min(max(LEAST if n >= 3 * LEAST else 1, round(SHARE * n)), n - 1) for c, n in total.items()}
    best: tuple[float, set[str]] = (float("inf"), set())
    for restart in range(RESTARTS):
        order = sorted(groups, key=lambda group: hashlib.sha256(f"0/{restart}/{group[0]}".encode()).digest())
        count, chosen = _descend(order, target, total)
        cost = sum((count[c] - target[c]) ** 2 + (len(names) if count[c] < min(LEAST, target[c]) else 0) for c in total)
        if cost < best[0]:
            best = (cost, chosen)
    chosen = {name for key, _, group in groups if key in best[1] for name in group}
    if not chosen:
        raise InputError(f"the {len(names)} videos cannot be divided: every class comes from a single source video.")
    absent = sorted(set(total) - {_category(name) for name in chosen})
    if absent:
        log.warning("no validation video for %s: each comes from too few source videos.", ", ".join(absent))
    return chosen


def _descend(order: Sequence[tuple[str, Counter, list[str]]], target: dict[str, int], total: Counter) -> tuple[Counter, set[str]]:
    """Takes or gives back one group after the other while that lowers the cost; ends when a round changes nothing."""
    count: Counter = Counter()
    chosen: set[str] = set()
    changed = True
    while changed:
        changed = False
        for key, sizes, _ in order:
            sign = -1 if key in chosen else 1
            new = {c: count[c] + sign * n for c, n in sizes.items()}
            gain = sum((count[c] - target[c]) ** 2 - (n - target[c]) ** 2 for c, n in new.items())
            if gain > 0 and all(n < total[c] for c, n in new.items()):
                count.update({c: n - count[c] for c, n in new.items()})
                chosen ^= {key}
                changed = True
    return count, chosen
