"""Annotated videos: what a data set is, the readers that make one, and the decoded frames on disk."""

from mssc.data.dataset import Dataset, Video

__all__ = ["Dataset", "Video"]
