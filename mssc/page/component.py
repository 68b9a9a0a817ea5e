"""Parts of the page that are scripts of our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def component(name: str, scripts: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A component of this package: ``name.html``, ``name.css`` and its scripts, which share one scope; and what is common to all.

    Args:
        name: of the files.
        scripts: names of JavaScript files, in order; ``common.js`` comes first, ``name.js`` last.
        options: of `gradio.HTML`; those that it does not know are read by the scripts as ``props``.
    """
    return gr.HTML(
        html_template=(HERE / f"{name}.html").read_text(),
        css_template="".join((HERE / f"{style}.css").read_text() for style in ("common", name)),
        js_on_load="\n".join((HERE / f"{script}.js").read_text() for script in ("common", *scripts, name)),
        apply_default_css=False,
        elem_id=name,
        **options,
    )
