"""An evaluation to read: a Markdown table, and a page that carries its pictures and asks nobody for anything."""

import base64
import html
import math
from collections.abc import Mapping

from .charts import alarm_chart, class_chart, confusion_chart, error_chart, png
from .run import Results

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 } th, td { border: 1px solid #ccc; padding: .2rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } img { max-width: 100% } code { word-break: break-all }
"""


def _percent(value: object) -> str:
    return "–" if value is None or (isinstance(value, float) and math.isnan(value)) else f"{100 * float(value):.2f}"  # type: ignore[arg-type]


def _scores(record: Mapping[str, object]) -> list[tuple[str, str]]:
    """Every score, in per cent."""
    kinds = ("frame-mAP", "video-mAP", "video accuracy", "actor AP", "mAP@")
    return [(name, _percent(value)) for name, value in record.items() if name.startswith(kinds)]


def _facts(record: Mapping[str, object]) -> list[tuple[str, str]]:
    """What the scores are of."""
    known = ("dataset", "part", "split", "videos", "frames", "detections", "tubes", "model", "weights", "mode", "threshold")
    facts = [(name, str(record[name])) for name in known if record.get(name) is not None]
    facts += [(f"false alarms, {name}", f"{value:.3g}") for name, value in _items(record, "false alarms")]
    facts += [(f"{name} version", str(value)) for name, value in _items(record, "versions")]
    return [*facts, ("command", str(record.get("command", "")))]


def _items(record: Mapping[str, object], key: str) -> list[tuple]:
    value = record.get(key)
    return list(value.items()) if isinstance(value, Mapping) else []


def _classes(record: Mapping[str, object]) -> tuple[list[str], list[list[str]]]:
    """The table per class: names of columns, rows."""
    rows = _items(record, "per class")
    columns = list(rows[0][1]) if rows else []
    table = [[name, *(_percent(row[c]) if "AP" in c else str(row[c]) for c in columns)] for name, row in rows]
    return ["class", *columns], table


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown(record: Mapping[str, object]) -> str:
    """Scores, what they are of, and the table per class."""
    heads, table = _classes(record)
    lines = [f"# {record.get('model') or 'Detections'} on {record.get('dataset')}", "", "| score | % |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _scores(record)]
    lines += ["", "| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in _facts(record)), ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table]
    return "\n".join(lines) + "\n"


def _table(heads: list[str], rows: list) -> str:
    def line(cells, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + (line(heads, "th") if any(heads) else "") + "".join(line(row, "td") for row in rows) + "</table>"


def _picture(title: str, figure, text: str) -> str:
    data = base64.b64encode(png(figure)).decode()
    picture = f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
    return f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{picture}"


def page(record: Mapping[str, object], results: Results) -> str:
    """The whole evaluation as one HTML file."""
    name = f"{record.get('model') or 'Detections'} on {record.get('dataset')}"
    voc, errors = results.voc, results.errors
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        _table(["score", "%"], _scores(record)),
        _table(["", ""], _facts(record)),
        _picture("Classes", class_chart(voc.per_class.tolist(), voc.positives.tolist(), results.classes), "frame-AP@0.5, voc."),
    ]
    if errors is not None:
        counts = results.error_counts()
        text = "Left: at the threshold in use. Right: what frame-mAP would gain if this kind alone were gone, at any score."
        parts.append(_picture("Errors by kind", error_chart(counts, errors.gain), text))
    if results.confusion is not None:
        text = "Boxes are matched by place whatever their class, at the threshold in use."
        parts.append(_picture("What is taken for what", confusion_chart(results.confusion, results.classes), text))
    if results.alarms:
        thresholds = [threshold for threshold, _ in results.alarms]
        rates = [alarms.per_minute for _, alarms in results.alarms]
        text = "Reports of an action in frames where nothing happens, consecutive frames counted once."
        parts.append(_picture("False alarms", alarm_chart(thresholds, rates, results.threshold), text))
    parts += ["<h2>Table</h2>", _table(*_classes(record))]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(name)}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
