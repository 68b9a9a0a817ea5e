"""What frames without action as negatives do, with and without MSM: false alarms and frame-mAP of trained models.

    python benchmarks/background.py --data DIR RUN [RUN …] -o FOLDER

RUN is the folder of a training run on UCF101-24 in which ``eval`` holds what ``mssc evaluate RUN/model --dataset ucf101-24 --part
val -o RUN/eval`` wrote. Writes ``results.csv``, a row per run, and ``alarms.png``, and prints the table as Markdown. False alarms
are counted at the thresholds at which each model finds the same share of the true boxes, so that a shy model gains nothing;
intervals are percentile bootstraps over the videos.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mssc.evaluate import alarms_at_recall, frame_map
from mssc.scoring.run import link_all
from mssc.scoring.saved import Known, read_detections, read_truth

RECALLS = (0.1, 0.2, 0.3)
CURVE = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2).tolist())
SAMPLES = 200
COLOURS = {"msm": "#0072b2", "none": "#e69f00"}


def measure(run: Path, known: Known) -> tuple[dict, dict, list[float]]:
    """A run's settings, scores, and false alarms a minute along `CURVE`."""
    settings = json.loads((run / "run.json").read_text())
    about = {
        "background": settings["train"]["background"],
        "motion": settings["model"]["motion"],
        "seed": settings["train"]["seed"],
    }
    linked, _ = link_all(read_detections(run / "eval", known), known)
    count = len(known.classes)
    found = alarms_at_recall(linked, known.truth, count, CURVE)
    curve = [alarms.per_minute if alarms is not None else float("nan") for _, alarms in found]
    scores = {
        f"frame-mAP {frames}": 100 * frame_map(linked, known.truth, count, frames=frames).map for frames in ("annotated", "every")
    }
    for recall, (threshold, alarms) in zip(RECALLS, alarms_at_recall(linked, known.truth, count, RECALLS), strict=True):
        low, high = interval(linked, known, recall) if alarms is not None else (float("nan"),) * 2
        per_minute = alarms.per_minute if alarms is not None else float("nan")
        at = f"at recall {recall:g}"
        idle = sum(video.frames for video in known.truth.values()) - sum(
            len(tube) for v in known.truth.values() for tube in v.tubes
        )
        share = 100 * alarms.frames / idle if alarms is not None else float("nan")  # one tube a video: no frame counts twice
        scores |= {f"% of idle frames {at}": share}
        scores |= {f"alarms/min {at}": per_minute, f"low {at}": low, f"high {at}": high, f"threshold {at}": threshold}
    return about, scores, curve


def interval(linked: dict, known: Known, recall: float) -> tuple[float, float]:
    """The middle 95 % of false alarms a minute over samples of the videos."""
    rng, names, values = np.random.default_rng(0), list(known.truth), []
    for _ in range(SAMPLES):
        drawn = {f"{i}": names[j] for i, j in enumerate(rng.integers(0, len(names), len(names)))}
        truth, found = ({key: table[name] for key, name in drawn.items()} for table in (known.truth, linked))
        ((_, alarms),) = alarms_at_recall(found, truth, len(known.classes), [recall])
        values += [alarms.per_minute] if alarms is not None else []
    return tuple(np.percentile(values, [2.5, 97.5])) if values else (float("nan"),) * 2


def picture(rows: list[tuple[dict, dict, list[float]]]) -> Figure:
    """False alarms a minute against the share of true boxes found, a line per run."""
    figure = Figure(figsize=(6, 3.6))
    axes = figure.add_subplot()
    for about, _, curve in rows:
        style = "-" if about["background"] else ":"
        label = f"{'MSM' if about['motion'] == 'msm' else 'no MSM'}, {'background' if about['background'] else 'action only'}"
        label = None if about["seed"] else label
        axes.plot(CURVE, curve, style, color=COLOURS[about["motion"]], marker="o", markersize=3, label=label)
    axes.set(xlabel="share of the true boxes found", ylabel="false alarms a minute", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    known = read_truth("ucf101-24", options.data, "val")
    rows = [measure(run, known) for run in options.runs]
    options.output.mkdir(parents=True, exist_ok=True)
    columns = [*rows[0][0], *rows[0][1]]
    with open(options.output / "results.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[*about.values(), *(f"{value:.4g}" for value in scores.values())] for about, scores, _ in rows])
    picture(rows).savefig(options.output / "alarms.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    heads = [
        "background",
        "MSM",
        "seed",
        "frame-mAP annotated",
        "every",
        *(f"alarms a minute (% of idle frames) at recall {r:g}" for r in RECALLS),
    ]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for about, scores, _ in rows:
        cells = [f"{about['background']:g}", "yes" if about["motion"] == "msm" else "no", str(about["seed"])]
        cells += [f"{scores[f'frame-mAP {frames}']:.1f}" for frames in ("annotated", "every")]
        for at in (f"at recall {r:g}" for r in RECALLS):
            low, high = scores[f"low {at}"], scores[f"high {at}"]
            cells.append(f"{scores[f'alarms/min {at}']:.1f} [{low:.1f}, {high:.1f}] ({scores[f'% of idle frames {at}']:.0f})")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
