"""What the page is made of: sections, grids of figures, tables that scroll inside themselves."""

from __future__ import annotations

from collections.abc import Sequence

from m3e.evaluation.markup import Markup, join, tag
from m3e.evaluation.published import SOURCES


def section(title: str, *parts: Markup | None) -> Markup:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title), join(*parts))


def grid(figures: Sequence[Markup]) -> Markup:
    """Figures beside each other, as many as fit."""
    return tag("div", join(*figures), class_="grid")


def data_table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] | None = None
) -> Markup:
    """A table that scrolls inside itself where it is too wide."""
    head = tag("tr", join(*(tag("th", name, scope="col") for name in heads)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), join(*(tag("td", cell) for cell in row[1:])), class_=kind or None)
        for row, kind in zip(rows, classes or [""] * len(rows), strict=True)
    ]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", join(*body)))
    return tag("div", whole, class_="scroll", role="region", tabindex="0", aria_label=caption)


def named(model: str, source: str) -> Markup:
    """A model's name, with a link to its source where its scores were published."""
    if not source:
        return join(model)
    number = list(SOURCES).index(source) + 1
    return join(model, tag("sup", tag("a", f"[{number}]", href=f"#source-{number}", aria_label=f"source: {source}")))
