"""Everybody who is seen, whatever they do: who has no sure action still has a box, a tube, and the actions that are likeliest.

A model with a detector of people says who is there. Of others, a frame's rows of one box sum up to how surely somebody is there, for a
row's score is that times an action's probability.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..boxes import CONTINUOUS, box_iou, box_share
from ..linking import LinkConfig, OnlineLinker
from ..structures import Detections, Tube
from ..video import frames_per_look
from .postprocess import PART

PERSON_SCORE = 0.2  # from which on a tube is somebody, by eye on videos of streets, sports, kitchens
ACTOR_SCORE = 0.35  # likewise where actions' scores alone tell, which are less sure
LIKELIEST = 3  # actions told of each
LINKS = LinkConfig(iou=0.2)  # from look to look people move farther than from frame to frame
WHOLE = 0.2  # share of a box that surer people in it take from which on it is about them: feet take less
SAME = 0.5  # overlap from which on an actor's box and a person's are of one person
_LOOKS = 50  # frames of a tube that tell what is likely


class Person(NamedTuple):
    """Somebody, for as long as they are seen.

    Attributes:
        tube: where; its scores say how surely somebody is there.
        likeliest: the best (label, mean score) of what they may be doing.
    """

    tube: Tube
    likeliest: list[tuple[int, float]]


def everybody(detections: Detections, looked: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who is in a frame: boxes (N, 4), the box of each row, and how surely somebody is there (N,).

    An actor is the person whose box fits best; an actor whose box is around surer people is one of them.

    Args:
        detections: of the frame.
        looked: whether people were looked for: an actor whom nobody's box fits is then somebody with probability 0. Else they are somebody
            more, and who lies in the box of a surer actor is a part of them.
    """
    boxes, which = np.unique(detections.boxes, axis=0, return_inverse=True)
    which = which.ravel()
    sure = np.bincount(which, detections.scores, len(boxes)).clip(0, 1)
    people, person = detections.people, detections.person.astype(np.float64)
    part = (box_share(people[:, None], boxes[None], CONTINUOUS) >= PART) & (person[:, None] < sure)
    part &= box_iou(people[:, None], boxes[None], CONTINUOUS) < SAME
    people, person = (column[looked | ~part.any(1)] for column in (people, person))
    if not len(people):
        return boxes, which, np.zeros_like(sure) if looked else sure
    overlap = box_iou(boxes[:, None], people[None], CONTINUOUS)
    inside = (box_share(people[None], boxes[:, None], CONTINUOUS) >= PART) & (person[None] > sure[:, None])
    around = np.where(inside, box_share(boxes[:, None], people[None], CONTINUOUS), 0).sum(1) >= WHOLE
    known, fitting = (overlap.max(1) >= SAME) | around, overlap.argmax(1)
    place = np.where(known, fitting, len(people) + np.cumsum(~known) - 1)
    person = np.concatenate([person, np.zeros((~known).sum()) if looked else sure[~known]])
    np.maximum.at(person, place[known] if looked else place, sure[known] if looked else sure)
    return np.concatenate([people, boxes[~known]]), place[which], person


class PeopleLinker:
    """Follow everybody through one video, a frame at a time; of these, those that people were looked for in count.

    Args:
        rate: frames per second.
        label: what the tubes are labelled with; a number that no action has.
        every: in every how many frames people were looked for; None where actions alone tell who is there.
    """

    def __init__(self, rate: float, label: int, every: int | None = None) -> None:
        self._hold, self._looked = every or frames_per_look(rate), every is not None
        lowest = PERSON_SCORE if self._looked else ACTOR_SCORE
        self._linker, self._label, self._frames = OnlineLinker(LINKS, rate / self._hold, lowest), label, 0

    def step(self, detections: Detections) -> None:
        """Take the next frame's rows."""
        if self._frames % self._hold == 0:
            boxes, _, sure = everybody(detections, self._looked)
            boxes, sure = boxes[sure > 0], sure[sure > 0]
            self._linker.step(Detections(boxes, np.full(len(boxes), self._label), sure))
        self._frames += 1

    def so_far(self, frames: Sequence[Detections]) -> list[Person]:
        """Who there would be if the video ended here, in order of appearance; `frames` are the rows that `step` was given."""
        tubes = [in_between(tube, self._hold, self._frames) for tube in self._linker.so_far()]
        return [Person(tube, _likeliest(tube, frames)) for tube in sorted(tubes, key=lambda tube: (tube.start, -tube.score))]


def in_between(tube: Tube, hold: int, frames: int) -> Tube:
    """A tube of looks as one of the video's frames, of which people were looked for in every `hold`-th: boxes move on a line from look to
    look, and stay after the last, for half of the way to the look in which nobody was there. The video has so many frames."""
    start, stop = tube.start * hold, min(tube.stop * hold, frames)
    stop -= hold // 2 if tube.stop * hold < frames else 0
    looks, places = np.arange(start, tube.stop * hold, hold), np.arange(start, stop)
    boxes = np.stack([np.interp(places, looks, side) for side in tube.boxes.T], 1)
    return Tube(tube.label, tube.score, start, boxes, np.interp(places, looks, tube.scores))


def _likeliest(tube: Tube, frames: Sequence[Detections]) -> list[tuple[int, float]]:
    total, looks = np.zeros(tube.label), 0
    for place in np.unique(np.linspace(0, len(tube) - 1, _LOOKS).astype(int)):
        found = frames[tube.start + place]
        mine = box_iou(found.boxes, tube.boxes[place], CONTINUOUS) >= SAME
        total += np.bincount(found.labels[mine], found.scores[mine], len(total))
        looks += bool(mine.any())
    best = np.argsort(-total, kind="stable")[:LIKELIEST]
    return [(int(label), float(total[label] / max(looks, 1))) for label in best if total[label] > 0]
