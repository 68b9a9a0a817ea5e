"""Frame detections -> action tubes: online, per class, trimmed in time.

    frame's rows --> match with live links --> links --> close --> trim by scores --> suppress --> tubes
                            |                                                                      (finish, finished)
                            +--> each row's score, averaged along its link (step)

A *link* is one actor doing (or not doing) one action: rows of one class whose boxes follow each other. It lives as long as
rows arrive, with whatever score. What a tube may be cut from is recorded only while the action is plausible, so memory is
bounded by the links that are live, however long the video. One class never looks at another: an actor who changes from one
action to the next gives two tubes.
"""

from .actors import identify, join
from .online import OnlineLinker, link
from .rescoring import score_by_tubes
from .settings import REFERENCE_RATE, LinkConfig
from .suppression import tube_nms
from .trimming import trim

__all__ = ["REFERENCE_RATE", "LinkConfig", "OnlineLinker", "identify", "join", "link", "score_by_tubes", "trim", "tube_nms"]
