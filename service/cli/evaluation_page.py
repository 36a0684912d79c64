"""The page of a measurement: its tables, and its curves drawn by Bokeh, in one file without a CDN."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Literal

from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import HoverTool
from bokeh.models.widgets import Div
from bokeh.palettes import Category10
from bokeh.plotting import figure
from bokeh.resources import INLINE

from graphs.evaluation.suite import Curve, Report, Table

_STYLE = "border-collapse: collapse; font: 14px sans-serif"
_CELL = "border-bottom: 1px solid #ccc; padding: 4px 12px 4px 0; text-align: left; vertical-align: top"


def write_page(report: Report, path: Path) -> Path:
    """Write the page of a report; gives its path."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    parts = [Div(text=f"<h1>veridask: {escape(report.suite)}</h1>{notes}")]
    parts += [Div(text=_table(table)) for table in report.tables]
    page = column(*parts, *(_plot(curve) for curve in report.curves), sizing_mode="stretch_width")
    path.write_text(file_html(page, INLINE, f"veridask: {report.suite}"), "utf-8")
    return path


def _table(table: Table) -> str:
    head = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(text)}</td>' for text in row) + "</tr>" for row in table.rows
    )
    return f'<h2>{escape(table.title)}</h2><table style="{_STYLE}"><tr>{head}</tr>{rows}</table>'


def _plot(curve: Curve) -> figure:
    scale: Literal["log", "linear"] = "log" if curve.log else "linear"
    plot = figure(
        width=700,
        height=420,
        title=curve.title,
        x_axis_label=curve.x_label,
        y_axis_label=curve.y_label,
        x_axis_type=scale,
        y_axis_type=scale,
    )
    for (name, (xs, ys)), colour in zip(curve.series.items(), Category10[10], strict=False):
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if not curve.log or (x > 0 and y > 0)]
        plot.line([x for x, _ in points], [y for _, y in points], legend_label=name, color=colour, line_width=2)
    plot.add_tools(HoverTool(tooltips=[(curve.x_label, "$x"), (curve.y_label, "$y")]))
    return plot
