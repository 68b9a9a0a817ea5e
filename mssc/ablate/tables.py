"""The ablation tables: each row is a set of changes to `ModelConfig`, applied with `dataclasses.replace`."""

RGB: dict[str, object] = {"backbone3d": "causal_cspdarknet_nano_rgb"}
PUBLISHED: dict[str, object] = {
    "motion_perceptual": "product",
    "motion_gate": "linear",
    "motion_reach": "short",
    "motion_residual": 0.1,
}
"""MSM as TriDet publishes its SGP layer."""
CMX: dict[str, object] = {"fusion_context": "none", "fusion_norm": "layer", "fusion_residual": "part", "fusion_reduction": 1}
"""SFM as CMX publishes its fusion module."""
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
        "MS-SC, frames and flow": {"backbone3d": "causal_cspdarknet_nano"},
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
        "average of the video": {"motion_memory": "video"},
        "published product": PUBLISHED,
        "product, centred": {**PUBLISHED, "motion_perceptual": "centred"},
        "product, full FC": {**PUBLISHED, "motion_fc": "full"},
        "short reach in time": {"motion_reach": "short"},
        "linear gate": {"motion_gate": "linear"},
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
        "SFM, cross-attention": {"fusion": "sfm_attention"},
        "SFM, CMX's": CMX,
        "context, plain sum": {"fusion_context": "none"},
        "SFM per task": {"fusion_branch": "task"},
        "SFM behind the stems": {"fusion_position": "stems"},
        "context / N": {"fusion_context": "mean"},
        "context, correlation": {"fusion_context": "correlation"},
        "a part of its own": {"fusion_context": "correlation", "fusion_residual": "part"},
        "a part of its own, rho 1": {"fusion_context": "correlation", "fusion_residual": "part", "fusion_reduction": 1},
        "heads of 16": {"fusion_head_width": 16},
        "rho 1": {"fusion_reduction": 1},
        "no depthwise skip": {"fusion_skip": "none"},
        "LayerNorm behind": {"fusion_norm": "layer"},
        "no path dropout": {"image_dropout": 0.0, "motion_dropout": 0.0},
        "head reads both paths too": {"classifier": "loose"},
        "two-stream head": {"classifier": "two-stream"},
        "class logits per anchor": {"classifier": "anchor"},
    },
}
"""Rows of the tables of the reconstruction: each is a set of changes to `ModelConfig`, applied with `dataclasses.replace`.

T-A begins with the control: the image path with the same head and no video path at all. A row with one path merges nothing. The video
path sees optical flow, which reaches the head through MSM and fusion alone; rows "no flow" have RGB instead, "frames and flow" both. Tables
T-B and T-C change MS-SC.
"""
REFERENCES = {"T-A": "both, concat", "T-B": "off", "T-C": "concat"}
"""The row of each table that the others are compared with."""
