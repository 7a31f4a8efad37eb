"""HTML and SVG as safe text: whatever is not markup already is escaped."""

from __future__ import annotations

from html import escape

_VOID = {"meta", "link", "br", "line", "rect", "circle", "path", "polygon"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """An element with its children escaped unless they are markup; ``None`` children and attributes are left out.

    A trailing underscore of an attribute's name is dropped (``class_``), other underscores become hyphens;
    ``True`` stands for an attribute without a value.
    """
    inside = "".join(text if isinstance(text, Markup) else escape(text) for text in children if text is not None)
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(_attribute(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID and not inside:
        return Markup(f"<{name}{given}>") if name in ("meta", "link", "br") else Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{inside}</{name}>")


def join(*parts: str | None) -> Markup:
    """Parts one after the other, escaped unless they are markup."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts if part is not None))


def _attribute(value: str | float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
