"""At what rate the networks look at videos."""

USUAL_RATE = 30
"""Frames per second that the networks learn from, give or take a third."""

FASTEST_RATE = 240
"""Of a camera; files that claim more count in milliseconds."""


def frames_per_look(rate: float) -> int:
    """Of how many frames one is looked at, in a video of `rate` frames a second: at 60, motion would look half as fast as it was learnt."""
    return max(1, round(rate / USUAL_RATE)) if rate <= FASTEST_RATE else 1
