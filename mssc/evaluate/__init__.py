"""How good detections and tubes are: frame-mAP under named protocols, video-mAP, AVA's mAP, errors by kind, false alarms.

A frame without detections keeps its ground truth. Scores are fractions in [0, 1]; classes without ground truth count in no
mean. Detections with equal scores are taken in the order given. Nothing here modifies its inputs.
"""

from .alarms import FalseAlarms, alarm_curve, alarms_at_recall, false_alarms
from .errors import ERRORS, Errors, confusion, error_types
from .frames import actor_ap, ava_map, frame_map, score_rows
from .matching import average_precision, collect
from .protocols import PROTOCOLS, RANGE, Annotated, Convention, FrameDetections, Score, Truth
from .videos import video_accuracy, video_map, video_map_range

__all__ = [
    "ERRORS",
    "PROTOCOLS",
    "RANGE",
    "Annotated",
    "Convention",
    "Errors",
    "FalseAlarms",
    "FrameDetections",
    "Score",
    "Truth",
    "actor_ap",
    "alarm_curve",
    "alarms_at_recall",
    "ava_map",
    "average_precision",
    "collect",
    "confusion",
    "error_types",
    "false_alarms",
    "frame_map",
    "score_rows",
    "video_accuracy",
    "video_map",
    "video_map_range",
]
