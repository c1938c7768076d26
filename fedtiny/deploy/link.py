"""Exports on a run's page."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fedtiny.disk import write_whole
from fedtiny.table import Table
from fedtiny.track.page import html_table

__all__ = ["link"]

_BEGIN, _END = "<!-- exports -->", "<!-- end of exports -->"


def link(page: Path, table: Table, remarks: Sequence[str], files: Sequence[str]) -> None:
    """Writes the exports' table and links into the run's page, in place of earlier ones; does nothing without a page.

    Args:
        page: `report.html`.
        table: What was measured.
        remarks: Lines below it.
        files: The files, from the page's folder.
    """
    if not page.is_file():
        return
    html = page.read_text(encoding="utf-8")
    links = ", ".join(f"<a href='{escape(file)}'>{escape(file)}</a>" for file in files)
    said = "".join(f"<li>{escape(line)}</li>" for line in remarks)
    section = (
        f"{_BEGIN}<h2>{escape(table.title)}</h2><p>{escape(table.text)}</p>{html_table(table)}"
        f"<ul class='quiet'>{said}</ul><p>Files: {links}</p>{_END}"
    )
    html = re.sub(f"{_BEGIN}.*?{_END}\n", "", html, flags=re.DOTALL)
    before, at, after = html.partition("<h2>All figures</h2>")
    write_whole(page, f"{before}{section}\n{at}{after}" if at else html.replace("</html>", f"{section}\n</html>"))
