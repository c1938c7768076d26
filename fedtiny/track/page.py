"""What pages are made of: a style, sections with a figure, tables."""

from html import escape

import plotly.graph_objects as go

from fedtiny.table import Table

__all__ = ["STYLE", "html_table", "section"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b2733; margin: 0 auto; max-width: 1080px; padding: 24px; }
h1 { margin-bottom: 4px; } h2 { margin: 40px 0 4px; } p { max-width: 78ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 20px 0; }
.tile { background: #f3f6f9; border-radius: 8px; padding: 14px 16px; } .tile b { display: block; font-size: 26px; }
table { border-collapse: collapse; } td, th { padding: 3px 14px 3px 0; text-align: left; }
pre { background: #f3f6f9; border-radius: 8px; padding: 16px; overflow-x: auto; font-size: 13px; }
.quiet { color: #5a6875; }
"""
"""What every page looks like."""


def section(title: str, text: str, figure: go.Figure) -> str:
    """A heading, what the figure shows, and the figure; plotly's script must be in the page."""
    chart = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{chart}"


def html_table(table: Table) -> str:
    """The rows as they are."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><tr>{head}</tr>{rows}</table>"
