"""How good detections and tubes are: frame-mAP under named protocols, video-mAP, AVA's mAP, errors by kind, false alarms.

A frame without detections keeps its ground truth. Scores are fractions in [0, 1]; classes without ground truth count in no
mean. Detections with equal scores are taken in the order given. Nothing here modifies its inputs.
"""

from .alarms import FalseAlarms, alarm_curve, alarms_at_recall
from .errors import ERRORS, Errors, confusion, error_types
from .frames import actor_ap, ava_map, frame_hits, frame_map
from .matching import Hits, average_precision, collect
from .protocols import PROTOCOLS, RANGE, Convention, FrameDetections, Score, Truth
from .videos import tube_hits, video_accuracy, video_map, video_map_range
