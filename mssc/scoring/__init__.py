"""A model, or saved detections, scored on a data set, with a report."""
