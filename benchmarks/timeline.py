"""A case as a timeline: every task of its graph on the workers' threads, drawn by Bokeh as one page without a CDN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, FactorRange, HoverTool
from bokeh.models.glyphs import VSpan
from bokeh.plotting import figure
from bokeh.resources import INLINE

COLOURS = {"compute": "#2a7fb8", "transfer": "#d9534f", "deserialize": "#f0ad4e"}


@dataclass(frozen=True)
class Stretch:
    """One stretch of one task. action: compute, transfer or deserialize; start and stop: seconds since 1970."""

    node: str
    worker: str
    action: str
    start: float
    stop: float


def stretches(records: Sequence[Mapping[str, Any]], case_id: str) -> list[Stretch]:
    """The stretches of one case out of `Client.get_task_stream` records, in order of start."""
    found = [
        Stretch(str(record["key"]).split(f"-{case_id}")[0], str(record["worker"]), s["action"], s["start"], s["stop"])
        for record in records
        if case_id in str(record["key"])
        for s in record["startstops"]
    ]
    return sorted(found, key=lambda stretch: stretch.start)


def write_timeline(found: Sequence[Stretch], waited_from: float, waited_ms: float, path: Path) -> Path:
    """Write the page. waited_from: the moment, in seconds since 1970, when the last upload was whole; it is zero here.

    waited_ms: when the decision was recorded. Stretches that ended before are left out. Gives the path.
    """
    shown = [stretch for stretch in found if stretch.stop >= waited_from]
    nodes = list(dict.fromkeys(stretch.node for stretch in shown))
    source = ColumnDataSource(
        {
            "node": [stretch.node for stretch in shown],
            "left": [1000 * (stretch.start - waited_from) for stretch in shown],
            "right": [1000 * (stretch.stop - waited_from) for stretch in shown],
            "ms": [round(1000 * (stretch.stop - stretch.start), 1) for stretch in shown],
            "action": [stretch.action for stretch in shown],
            "worker": [stretch.worker for stretch in shown],
            "colour": [COLOURS.get(stretch.action, "#999999") for stretch in shown],
        }
    )
    plot = figure(
        y_range=FactorRange(factors=nodes[::-1]),
        width=1100,
        height=140 + 26 * len(nodes),
        title=f"From the last upload to the decision: {waited_ms:.0f} ms",
        x_axis_label="milliseconds since the last byte of the last upload",
    )
    plot.hbar(y="node", left="left", right="right", height=0.7, color="colour", legend_group="action", source=source)
    plot.add_glyph(VSpan(x=waited_ms, line_color="green", line_dash="dashed"))
    plot.add_tools(HoverTool(tooltips=[("task", "@node"), ("", "@action, @ms ms"), ("worker", "@worker")]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file_html(plot, INLINE, "veridask: timeline of a case"), "utf-8")
    return path
