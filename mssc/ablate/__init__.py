"""Ablations: named rows of a table trained over seeds, scored alike, and compared with intervals."""
