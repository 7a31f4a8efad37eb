"""The page at ``/``: try the served model in a browser, in Chinese or English.

Its parts lie beside this file, each readable alone, and are joined into one HTML text, so that the
page needs no second request and its Content-Security-Policy can name its style and its script by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources

SCRIPTS = ("words", "api", "cosine", "elements", "lists", "heat", "markdown", "snippets", "tabs", "main")
"""The parts of the script, joined in this order into one module."""


@cache
def read_page() -> str:
    """The whole page as one HTML text that loads nothing else and calls only the server that it came from."""
    style = _part("page.css")
    script = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    parts = {
        "policy": _policy(style, script),
        "style": style,
        "words": json.dumps(json.loads(_part("words.json")), ensure_ascii=False).replace("<", "\\u003c"),
        "script": script,
    }
    page = _part("index.html")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    return page


def _part(name: str) -> str:
    # A checkout with CRLF must give the same bytes: browsers hash the text after they have made it LF.
    return resources.files(__name__).joinpath(name).read_text("utf-8").replace("\r\n", "\n")


def _policy(style: str, script: str) -> str:
    rules = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": _source(style),
        "script-src": _source(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
