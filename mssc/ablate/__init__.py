"""Ablations: named rows of a table trained over seeds, scored alike, and compared with intervals."""

from .results import FUSED, METRICS, SINGLE, Results, Run, load_results
from .runs import Plan, ablate, finish
from .scores import Hits, Scored, score_model
from .studies import CONDITIONS, score_noise, score_paths

__all__ = [
    "CONDITIONS",
    "FUSED",
    "METRICS",
    "SINGLE",
    "Hits",
    "Plan",
    "Results",
    "Run",
    "Scored",
    "ablate",
    "finish",
    "load_results",
    "score_model",
    "score_noise",
    "score_paths",
]
