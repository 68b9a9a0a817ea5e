"""Which tubes are one actor's."""

from collections.abc import Sequence

from ..boxes import CONTINUOUS, box_iou
from ..structures import Tube

SAME_ACTOR_IOU = 0.5  # mean over shared frames, for two actions to be one actor's (the usual threshold of a correct box)
NEXT_ACTOR_IOU = 0.3  # from the end of one action to the start of the next: the actor may have moved meanwhile
NEXT_ACTOR_GAP = 15  # frames without an action over which an actor keeps its number (half a second at 30 per second)


def _fits(tube: Tube, members: list[Tube]) -> float:
    """How well `tube` continues or accompanies what one actor does, 0 where it cannot be the same actor."""
    beside, near = [], []
    for other in members:
        start = max(tube.start, other.start)
        shared = min(tube.stop, other.stop) - start
        if shared <= 0:
            if shared >= -NEXT_ACTOR_GAP:
                one, following = sorted((tube, other), key=lambda tube: tube.start)
                near.append(float(box_iou(one.boxes[-1], following.boxes[0], CONTINUOUS)))
        elif other.label == tube.label:  # nobody does the same thing twice at once
            return 0.0
        else:
            a, b = (one.boxes[start - one.start :][:shared] for one in (other, tube))
            beside.append(float(box_iou(a, b, CONTINUOUS).mean()))
    if beside:
        return min(beside) if min(beside) >= SAME_ACTOR_IOU else 0.0
    return max(near) if near and max(near) >= NEXT_ACTOR_IOU else 0.0


def identify(tubes: Sequence[Tube]) -> list[int]:
    """Number who does what: tubes get the same number where their boxes say that it is the same actor.

    Tubes that share frames are one actor's if their boxes nearly coincide; a tube that starts where another has just ended
    goes on with that one's actor. This reads positions only: an actor who leaves and comes back gets a new number.

    Returns:
        A number for each tube, from 1 in the order of appearance.
    """
    return _numbered(tubes, sorted(range(len(tubes)), key=lambda i: (tubes[i].start, -tubes[i].score)), {})


def join(tubes: Sequence[Tube], people: Sequence[Tube], numbers: Sequence[int]) -> list[int]:
    """Number who does what, among people whose numbers are known.

    The surest tube comes first, so that no number changes where less sure ones are left out.

    Args:
        tubes: of actions.
        people: somebody each.
        numbers: theirs, from 1.

    Returns:
        A number for each tube: that of a person, or a new one where nobody was seen.
    """
    known: dict[int, list[Tube]] = {}
    for person, number in zip(people, numbers, strict=True):
        known.setdefault(number, []).append(person)
    return _numbered(tubes, sorted(range(len(tubes)), key=lambda i: (-tubes[i].score, tubes[i].start)), known)


def _numbered(tubes: Sequence[Tube], order: Sequence[int], known: dict[int, list[Tube]]) -> list[int]:
    """A number for each tube, taken in some order: of those that are known, and then of those before it, the one that it fits best, or a
    new one."""
    found = [0] * len(tubes)
    for index in order:
        fits = {number: _fits(tubes[index], members) for number, members in known.items()}
        best = max(fits, key=lambda number: fits[number], default=0)
        if not fits.get(best):
            best = max(known, default=0) + 1
        known.setdefault(best, []).append(tubes[index])
        found[index] = best
    return found
