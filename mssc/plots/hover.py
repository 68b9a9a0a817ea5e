"""An interactive picture whose points show the frame that they are from."""

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import
    from plotly.graph_objects import Figure as PlotlyFigure

# Hover labels of plotly hold text alone, so the frame is shown beside the pointer by a few lines of script. The page needs no network.
SCRIPT = """
const pictures = PICTURES;
const plot = document.getElementById('{plot_id}');
const card = document.createElement('div');
card.className = 'frame-card';
card.style.cssText = 'position:fixed;display:none;pointer-events:none;z-index:9;border:1px solid #767676;background:#fff;line-height:0';
const image = card.appendChild(document.createElement('img'));
image.style.cssText = 'width:SIDEpx;height:SIDEpx';
const cell = card.appendChild(document.createElement('div'));
cell.style.cssText = 'position:absolute;box-sizing:border-box;border:2px solid #fff;outline:1px solid #000';
document.body.appendChild(card);
plot.on('plotly_hover', function (found) {
  const row = found.points[0].customdata;
  if (!row || !(row[0] in pictures)) return;
  image.src = 'data:image/jpeg;base64,' + pictures[row[0]];
  cell.style.left = row[1] * SIDE + 'px';
  cell.style.top = row[2] * SIDE + 'px';
  cell.style.width = (row[3] - row[1]) * SIDE + 'px';
  cell.style.height = (row[4] - row[2]) * SIDE + 'px';
  const right = found.event.clientX + SIDE + 40 > window.innerWidth;
  card.style.left = found.event.clientX + (right ? -SIDE - 24 : 24) + 'px';
  card.style.top = Math.min(found.event.clientY + 24, window.innerHeight - SIDE - 8) + 'px';
  card.style.display = 'block';
});
plot.on('plotly_unhover', function () { card.style.display = 'none'; });
"""
SIDE = 192  # pixels on the page


@dataclass(eq=False)
class HoverFigure:
    """A plotly figure and the frames that its points show.

    Attributes:
        figure: its points carry (number of a picture, x1, y1, x2, y2) as custom data: what to show, and which part of it to frame, as
            shares of its sides.
        pictures: JPEGs, in the order of the numbers.
    """

    figure: "PlotlyFigure"
    pictures: list[bytes]

    def to_html(self, include_plotlyjs: bool = True) -> str:
        """A page that needs no network. See plotly's method of this name."""
        coded = json.dumps({number: base64.b64encode(picture).decode() for number, picture in enumerate(self.pictures)})
        script = SCRIPT.replace("SIDE", str(SIDE)).replace("PICTURES", coded)
        return self.figure.to_html(include_plotlyjs=include_plotlyjs, post_script=script)
