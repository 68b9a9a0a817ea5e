"""The ablation tables: each row is a set of changes to `ModelConfig`, applied with `dataclasses.replace`."""

RGB: dict[str, object] = {"backbone3d": "causal_cspdarknet_nano_rgb"}
ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    "T-A": {
        "2D only": {"paths": "key"},
        "3D only": {"paths": "clip", "motion": "none"},
        "both, concat": {"motion": "none", "fusion": "concat"},
        "+ MSM": {"fusion": "concat"},
        "+ SFM": {"motion": "none"},
        "MS-SC": {},
        "both, CFAM": {"motion": "none", "fusion": "cfam"},
        "+ MSM, CFAM": {"fusion": "cfam"},
        "3D only, no flow": {"paths": "clip", "motion": "none", **RGB},
        "both, concat, no flow": {"motion": "none", "fusion": "concat", **RGB},
        "+ MSM, no flow": {"fusion": "concat", **RGB},
        "+ SFM, no flow": {"motion": "none", **RGB},
        "MS-SC, no flow": {**RGB},
    },
    "T-B": {
        "off": {"motion": "none"},
        "identity": {"motion_branches": "none"},
        "perceptual": {"motion_branches": "perceptual"},
        "spacetime": {"motion_branches": "spacetime"},
        "both": {},
        "SE": {"motion": "se"},
        "SimAM": {"motion": "simam"},
        "DW3x3x3": {"motion": "dwconv"},
        "average over t": {"motion_average": "t"},
        "average over h, w": {"motion_average": "hw"},
        "learned average": {"motion_average": "none"},
        "centred": {"motion_perceptual": "centred"},
        "full FC": {"motion_fc": "full"},
        "no wide kernel": {"motion_wide": 0},
        "wide kernel 5": {"motion_wide": 5},
        "wide kernel 9": {"motion_wide": 9},
        "no scale gate": {"motion_scale": "one"},
        "2D kernels": {"motion_dims": "2d"},
        "1D kernels": {"motion_dims": "1d"},
        "native position": {"motion_position": "native"},
    },
    "T-C": {
        "add": {"fusion": "add"},
        "concat": {"fusion": "concat"},
        "CFAM": {"fusion": "cfam"},
        "SFM stage 1": {"fusion": "sfm1"},
        "SFM stage 2": {"fusion": "sfm2"},
        "SFM": {},
        "FRM + SFM": {"fusion": "frm+sfm"},
        "SFM, softmax attention": {"fusion": "sfm_softmax"},
        "SFM per task": {"fusion_branch": "task"},
        "context / N": {"fusion_context": "mean"},
        "heads of 16": {"fusion_head_width": 16},
        "rho 2": {"fusion_reduction": 2, "fusion_head_width": 32},
        "no depthwise skip": {"fusion_skip": "none"},
        "class logits per anchor": {"classifier": "anchor"},
    },
}
"""Rows of the tables of the reconstruction: each is a set of changes to `ModelConfig`, applied with `dataclasses.replace`.

T-A begins with the control: the 2D path with the same pooled head and no video path at all. A row with one path merges nothing. All
rows with a 3D path have the motion stream over optical flow twice: in that path's map, and so before MSM and SFM, and by itself in the
classifier's second branch, which neither MSM nor SFM touches. Rows "no flow" have neither of the two, like the paper's figure: there MSM
and SFM work on what RGB says alone. T-B and T-C change MS-SC with flow, the model that ships.
"""
REFERENCES = {"T-A": "both, concat", "T-B": "off", "T-C": "concat"}
"""The row of each table that the others are compared with."""
