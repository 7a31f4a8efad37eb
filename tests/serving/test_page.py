"""The page's one text: complete, of this server only, allowed by its own policy, the same in both languages."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from m3e.serving.page import SCRIPTS, read_page


class _Parts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("type") or tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.texts[self.inside] = self.texts.get(self.inside, "") + data


@pytest.fixture(scope="module")
def parts() -> _Parts:
    found = _Parts()
    found.feed(read_page())
    return found


@pytest.fixture(scope="module")
def words(parts: _Parts) -> dict[str, dict[str, str]]:
    return json.loads(parts.texts["application/json"])


def source_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_exactly_the_pages_own_style_and_script(parts: _Parts) -> None:
    policy = next(attrs["content"] for _, attrs in parts.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["style-src"] == source_of(parts.texts["style"])
    assert rules["script-src"] == source_of(parts.texts["module"])
    assert "unsafe" not in (policy or "")


def test_nothing_is_loaded_and_no_address_is_named(parts: _Parts) -> None:
    loaded = [attrs.get("src") or attrs.get("href") for tag, attrs in parts.tags if tag != "a"]
    assert [address.partition(",")[0] for address in loaded if address] == ["data:image/png;base64"]
    assert not re.search(r"https?://\w", read_page().replace(r"https?:\/\/", ""))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", parts.texts["module"])
    assert not any(name.startswith("on") or name == "style" for _, attrs in parts.tags for name in attrs)


def test_every_part_is_in_the_page() -> None:
    page = read_page()
    files = {item.name for item in resources.files("m3e.serving.page").iterdir() if item.name.endswith(".js")}
    assert files == {f"{name}.js" for name in SCRIPTS}
    for name in files:
        assert (resources.files("m3e.serving.page") / name).read_text("utf-8").strip() in page
    assert "{{" not in page


def test_both_languages_have_the_same_texts_with_the_same_values(words: dict[str, dict[str, str]]) -> None:
    assert words["zh"].keys() == words["en"].keys()
    for key in words["zh"]:
        values = {name: set(re.findall(r"\{(\w+)\}", words[name][key])) for name in ("zh", "en")}
        assert values["zh"] == values["en"], key
        assert words["zh"][key].strip()
        assert words["en"][key].strip()
    chinese = re.compile(r"[\u4e00-\u9fff]")
    plain = {key: text for key, text in words["en"].items() if "sample" not in key and key != "other"}
    assert not [key for key, text in plain.items() if chinese.search(text)]


def test_every_named_text_exists_and_every_text_is_named(parts: _Parts, words: dict[str, dict[str, str]]) -> None:
    marks = ("data-words", "data-label-words", "data-sample")
    in_html = {value for _, attrs in parts.tags for name in marks if (value := attrs.get(name))}
    script = parts.texts["module"]
    literals = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)*)"', script))
    facts = re.findall(r'"([a-z_]+)"', script.split("const names = [")[1].split("]")[0])
    used = in_html | {f"card.{name}" for name in facts} | {name for name in literals if "." in name}
    assert used <= words["en"].keys()
    assert words["en"].keys() <= used | literals
