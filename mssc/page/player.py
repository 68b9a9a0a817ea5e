"""The player: an HTML component that draws boxes over the video that the browser plays, with a timeline, thumbnails and a table."""

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def component(name: str, value: Any = None, **options: Any) -> gr.HTML:
    """A component of this package: ``name.html``, ``name.css`` and ``name.js``; its value is whatever the script reads.

    Args:
        name: of the files.
        value: to begin with.
        options: of `gradio.HTML`.
    """
    page, style, script = ((HERE / f"{name}.{kind}").read_text() for kind in ("html", "css", "js"))
    return gr.HTML(
        value, html_template=page, css_template=style, js_on_load=script, apply_default_css=False, elem_id=name, **options
    )
