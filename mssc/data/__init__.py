"""Annotated videos: what a data set is, the readers that make one, and the decoded frames on disk."""

from .dataset import Dataset, Video

__all__ = ["Dataset", "Video"]
