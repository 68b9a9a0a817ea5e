"""Who does what within a span of time, row by row: the timeline of a shared clip and of a figure."""

from typing import NamedTuple

import numpy as np

from ..structures import Tube
from .result import VideoResult

MOST_ROWS = 6


class Lanes(NamedTuple):
    """Rows of a timeline.

    Attributes:
        rows: an actor's number and tubes that do not overlap.
        more: how many people have no room.
    """

    rows: list[tuple[int, list[Tube]]]
    more: int

    @classmethod
    def of(cls, shown: VideoResult, start: float, stop: float) -> "Lanes":
        """The surest actor first, then those who do nothing sure. Whose tubes overlap has several rows.

        Args:
            shown: what was found.
            start: seconds.
            stop: seconds.
        """
        times = np.array(shown.times)

        def there(tube: Tube) -> bool:
            own = times[tube.start : tube.stop]
            return bool(((own >= start) & (own <= stop)).any())

        lanes: dict[int, list[list[Tube]]] = {}
        acts = list(zip(shown.tubes, shown.actors, strict=True))
        best = {number: max(tube.score for tube, other in acts if other == number) for _, number in acts}
        for tube, number in sorted(acts, key=lambda one: (-best[one[1]], one[1], one[0].start)):
            if there(tube):
                mine = lanes.setdefault(number, [])
                free = next((lane for lane in mine if lane[-1].stop <= tube.start), None)
                if free is None:
                    mine.append([tube])
                else:
                    free.append(tube)
        seen = zip(shown.people, shown.numbers[1], strict=True)
        for number in sorted({number for (tube, _), number in seen if there(tube)} - set(lanes)):
            lanes[number] = [[]]
        rows: list[tuple[int, list[Tube]]] = []
        for place, (number, mine) in enumerate(lanes.items(), 1):
            if rows and len(rows) + len(mine) > MOST_ROWS + (place == len(lanes)):
                return cls(rows, len(lanes) - place + 1)
            rows += [(number, lane) for lane in mine]
        return cls(rows, 0)

    @property
    def count(self) -> int:
        """Of rows, with one that counts the rest, or says why there is none."""
        return max(1, len(self.rows) + bool(self.more))
