"""Small pictures that an answer holds in itself."""

import base64
import io

import numpy as np
from PIL import Image


def jpeg_address(image: np.ndarray, quality: int) -> str:
    """The address of a JPEG that holds an image (H, W, 3), uint8 RGB."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
