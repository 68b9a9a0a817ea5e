"""From frames to detections, from a video to action tubes."""
