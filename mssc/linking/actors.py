"""Which tubes are one actor's."""

from collections.abc import Sequence

import numpy as np

from ..boxes import CONTINUOUS, box_iou
from ..structures import Tube

SAME_ACTOR_IOU = 0.5  # mean over shared frames, for two actions to be one actor's (the usual threshold of a correct box)
NEXT_ACTOR_IOU = 0.3  # from the end of one action to the start of the next: the actor may have moved meanwhile
NEXT_ACTOR_GAP = 15  # frames without an action over which an actor keeps its number (half a second at 30 per second)


def _fits(tube: Tube, members: list[Tube]) -> float:
    """How well `tube` continues or accompanies what one actor does, 0 where it cannot be the same actor."""
    beside, before = [], []
    for other in members:  # none starts after `tube`
        shared = min(tube.stop, other.stop) - tube.start
        if shared <= 0:
            if shared >= -NEXT_ACTOR_GAP:
                before.append(float(box_iou(other.boxes[-1], tube.boxes[0], CONTINUOUS)))
        elif other.label == tube.label:  # nobody does the same thing twice at once
            return 0.0
        else:
            offset = tube.start - other.start
            beside.append(float(box_iou(other.boxes[offset : offset + shared], tube.boxes[:shared], CONTINUOUS).mean()))
    if beside:
        return min(beside) if min(beside) >= SAME_ACTOR_IOU else 0.0
    return max(before) if before and max(before) >= NEXT_ACTOR_IOU else 0.0


def identify(tubes: Sequence[Tube]) -> list[int]:
    """Number who does what: tubes get the same number where their boxes say that it is the same actor.

    Tubes that share frames are one actor's if their boxes nearly coincide; a tube that starts where another has just ended
    goes on with that one's actor. This reads positions only: an actor who leaves and comes back gets a new number.

    Returns:
        A number for each tube, from 1 in the order of appearance.
    """
    known: list[list[Tube]] = []
    numbers = [0] * len(tubes)
    for index in sorted(range(len(tubes)), key=lambda i: (tubes[i].start, -tubes[i].score)):
        fits = [_fits(tubes[index], members) for members in known]
        best = int(np.argmax(fits)) if fits and max(fits) > 0 else len(known)
        if best == len(known):
            known.append([])
        known[best].append(tubes[index])
        numbers[index] = best + 1
    return numbers
