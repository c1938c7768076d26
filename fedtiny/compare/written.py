"""Tables as Markdown, as LaTeX and as HTML, ready to paste."""

from html import escape
from itertools import groupby

from fedtiny.compare.tables import Sheet

__all__ = ["html_of", "markdown_of", "tex_of"]

_TEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def markdown_of(sheet: Sheet) -> str:
    """A table of GitHub's kind; headings above others are put before them."""
    heads = [f"{column.over} {column.name}".strip().replace("|", r"\|") for column in sheet.columns]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for i, row in enumerate(sheet.rows):
        plain = [cell.replace("|", r"\|") for cell in row]
        cells = [f"**{cell}**" if (i, k) in sheet.bold else cell for k, cell in enumerate(plain)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tex_of(sheet: Sheet) -> str:
    """A table for LaTeX with the package booktabs."""
    count = len(sheet.columns)
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}", r"\toprule"]
    if any(column.over for column in sheet.columns):
        tops, rules, at = [], [], 1
        for over, group in groupby(sheet.columns, lambda column: column.over):
            width = len(list(group))
            tops.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(over)}}}" if over else " & " * (width - 1))
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if over else []
            at += width
        lines += [" & ".join(tops) + r" \\", "".join(rules)]
    lines += [" & ".join(_tex(column.name) for column in sheet.columns) + r" \\", r"\midrule"]
    for i, row in enumerate(sheet.rows):
        cells = [_tex(cell) for cell in row]
        lines.append(
            " & ".join(rf"\textbf{{{cell}}}" if (i, k) in sheet.bold else cell for k, cell in enumerate(cells)) + r" \\"
        )
    caption = f"{sheet.title}. {sheet.text}".strip()
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(caption)}}}", r"\end{table}", ""])


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def html_of(sheet: Sheet) -> str:
    """An HTML table with one or two lines of headings."""
    top = ""
    if any(column.over for column in sheet.columns):
        groups = [(over, len(list(group))) for over, group in groupby(sheet.columns, lambda column: column.over)]
        top = "".join(f"<th colspan='{width}'>{escape(over)}</th>" for over, width in groups)
        top = f"<tr>{top}</tr>"
    head = "".join(f"<th>{escape(column.name)}</th>" for column in sheet.columns)
    rows = ""
    for i, row in enumerate(sheet.rows):
        cells = [f"<b>{escape(x)}</b>" if (i, k) in sheet.bold else escape(x) for k, x in enumerate(row)]
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<div class='wide'><table>{top}<tr>{head}</tr>{rows}</table></div>"
