"""The documentation tells the truth: links lead somewhere, commands and options exist, code compiles."""

from __future__ import annotations

import json
import pkgutil
import re
import runpy
import shlex
import unicodedata
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from m3e.data.columns import _KNOWN_NAMES, FIELDS
from m3e.evaluation.tasks import CARDS, MTEB_SUITES, SUITES

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "src" / "m3e" / "assets" / "samples" / "README.md",
]
TRANSLATIONS = [
    ("README.md", "README.en.md"),
    ("docs/数据格式.md", "docs/data-formats.md"),
    ("docs/数据管线.md", "docs/data-pipeline.md"),
    ("docs/挖掘.md", "docs/mining.md"),
    ("docs/训练.md", "docs/training.md"),
    ("docs/微调.md", "docs/fine-tuning.md"),
    ("docs/评测.md", "docs/evaluation.md"),
    ("docs/服务.md", "docs/serving.md"),
    ("docs/检索.md", "docs/search.md"),
    ("docs/编码.md", "docs/encoding.md"),
    ("docs/导出.md", "docs/export.md"),
    ("docs/基准.md", "docs/benchmarks.md"),
]
PLANNED = "(planned)"
ENVIRONMENT_PREFIX = re.compile(r"^(?:[A-Z_][A-Z0-9_]*=\S*\s+)+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    return FENCE.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)]


def anchor(title: str) -> str:
    """GitHub's anchor of a heading: lower case, no punctuation, hyphens for spaces."""
    kept = (char for char in title.lower() if char in " -_" or unicodedata.category(char)[0] in "LNM")
    return "".join(kept).replace(" ", "-")


def links(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if "://" not in target]


def command_lines(path: Path) -> Iterator[str]:
    """Every ``m3e …`` in code blocks and code spans, less those on lines that are marked as planned."""
    text = read(path)
    for language, body in FENCE.findall(text):
        if language == "bash":
            lines = (ENVIRONMENT_PREFIX.sub("", line.strip()) for line in body.replace("\\\n", " ").splitlines())
            yield from (line for line in lines if line.split(" ")[0] == "m3e")
    for line in prose(text).splitlines():
        if PLANNED not in line and "not built yet" not in line.lower():
            yield from (
                span for span in re.findall(r"`([^`]+)`", line) if span.split(" ")[0] == "m3e" and span != "m3e"
            )


def option_spans(text: str) -> set[str]:
    """The long options named in prose or tables."""
    spans = re.findall(r"`(--[^`]+)`", prose(text))
    return {span.split(" ")[0].split("=")[0] for span in spans}


@pytest.fixture(scope="module")
def command() -> Any:
    import typer

    import m3e.cli
    from m3e.cli import app

    for module in pkgutil.iter_modules(m3e.cli.__path__):
        import_module(f"m3e.cli.{module.name}")
    return typer.main.get_command(app)


def subcommands(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def options(command: Any) -> set[str]:
    names = {name for parameter in command.params for name in parameter.opts if name.startswith("-")}
    return names | {"--help", "-h"}


def fault(command: Any, line: str) -> str | None:
    """What is wrong with a command line, or ``None``."""
    words = shlex.split(line)[1:]
    here = command
    while words and words[0] in subcommands(here):
        here = subcommands(here)[words.pop(0)]
    if here is command and words and not words[0].startswith("-"):
        return f"{line}: there is no command {words[0]}"
    for word in words:
        option = word.split("=")[0]
        if option.startswith("-") and option not in options(here):
            return f"{line}: there is no option {option}"
    return None


def test_the_checker_finds_faults(command: Any) -> None:
    assert fault(command, "m3e finetune m3e-small faq.csv --lr 1e-5") is None
    assert fault(command, "m3e models path m3e-small") is None
    assert fault(command, "m3e --version") is None
    assert "no command bake" in str(fault(command, "m3e bake m3e-small"))
    assert "no option --learning-rate" in str(fault(command, "m3e finetune a b --learning-rate 1"))
    assert "no option --epochs" in str(fault(command, "m3e eval a --epochs 1"))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_lead_to_files_and_headings(path: Path) -> None:
    for target in links(read(path)):
        file, _, fragment = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{target} is not there"
        assert there.is_relative_to(ROOT), f"{target} leads out of the project"
        if fragment:
            assert fragment in [anchor(title) for _, title in headings(read(there))], f"{target}: no such heading"


def test_readmes_have_commands_to_check() -> None:
    for name in ("README.md", "README.en.md"):
        shown = {line.split(" ")[1] for line in command_lines(ROOT / name)}
        assert shown >= {"quickstart", "models", "finetune", "eval", "encode", "env"}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_and_options_exist(path: Path, command: Any) -> None:
    faults = [found for line in command_lines(path) if (found := fault(command, line))]
    assert not faults


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("docs/fine-tuning.md", "finetune"),
        ("docs/微调.md", "finetune"),
        ("docs/training.md", "train"),
        ("docs/训练.md", "train"),
        ("docs/serving.md", "serve"),
        ("docs/服务.md", "serve"),
        ("docs/encoding.md", "encode"),
        ("docs/编码.md", "encode"),
    ],
)
def test_every_option_of_a_command_is_described(page: str, name: str, command: Any) -> None:
    known = {option for option in options(subcommands(command)[name]) if option.startswith("--")} - {"--help"}
    assert option_spans(read(ROOT / page)) == known


@pytest.mark.parametrize("page", ["docs/search.md", "docs/检索.md"])
def test_every_option_of_index_and_search_is_described(page: str, command: Any) -> None:
    known = options(subcommands(command)["index"]) | options(subcommands(command)["search"])
    assert option_spans(read(ROOT / page)) == {option for option in known if option.startswith("--")} - {"--help"}


def test_architecture_marks_exactly_the_commands_that_are_missing(command: Any) -> None:
    rows = re.findall(r"^\| (`m3e (\w+)[^|]*) \|", read(ROOT / "docs" / "architecture.md"), re.MULTILINE)
    marked = {name: PLANNED in cell for cell, name in rows}
    assert {name for name, planned in marked.items() if not planned} == set(subcommands(command))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_python_code_compiles_and_imports_real_names(path: Path) -> None:
    for language, body in FENCE.findall(read(path)):
        if language != "python":
            continue
        compile(body, name_of(path), "exec")
        for module, names in re.findall(r"^from ((?:m3e|uniem)[\w.]*) import (.+)$", body, re.MULTILINE):
            loaded = import_module(module)
            assert all(hasattr(loaded, item.strip()) for item in names.split(","))


@pytest.mark.parametrize(("chinese", "english"), TRANSLATIONS)
def test_translations_have_the_same_shape(chinese: str, english: str) -> None:
    ours, theirs = read(ROOT / chinese), read(ROOT / english)
    assert [level for level, _ in headings(ours)] == [level for level, _ in headings(theirs)]
    assert [language for language, _ in FENCE.findall(ours)] == [language for language, _ in FENCE.findall(theirs)]
    rows = [re.findall(r"^\|.*\|$", prose(text), re.MULTILINE) for text in (ours, theirs)]
    assert [row.count("|") for row in rows[0]] == [row.count("|") for row in rows[1]]


def test_every_page_in_chinese_has_its_translation() -> None:
    listed = {name for pair in TRANSLATIONS for name in pair}
    pages = {name_of(path) for path in [*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")]}
    assert pages - listed == {"docs/architecture.md", "docs/experiments.md"}


@pytest.mark.parametrize("name", ["README.md", "README.en.md"])
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    shown = set(re.findall(r"(?:`|^)make ([\w-]+)", read(ROOT / name), re.MULTILINE))
    assert shown >= {"test", "quickstart"}
    assert shown <= targets


@pytest.mark.parametrize("name", ["README.md", "README.en.md"])
def test_model_table_agrees_with_the_models(name: str) -> None:
    from m3e.models.names import local_models

    text = read(ROOT / name)
    for model in local_models().values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{model.name}` |"))
        assert f"| {model.dim} |" in row
        assert f"| {model.licence} |" in row
        assert model.max_length is None or f"| {model.max_length} |" in row
        if model.parameters:
            assert f"| {model.parameters / 1e6:.1f}M |" in row


@pytest.mark.parametrize("name", ["docs/数据格式.md", "docs/data-formats.md"])
def test_every_known_column_name_is_listed(name: str) -> None:
    words = set(re.split(r"[\s`|、，,；;]+", read(ROOT / name)))
    known = {word for names in _KNOWN_NAMES.values() for word in names.split()}
    known |= {field for fields in FIELDS.values() for field in fields.values()}
    assert known <= words


@pytest.mark.parametrize("name", ["docs/评测.md", "docs/evaluation.md"])
def test_every_task_is_listed_with_its_files(name: str) -> None:
    text = read(ROOT / name)
    for card in CARDS:
        row = next(line for line in text.splitlines() if re.match(rf"\| {re.escape(card.key)} [¹²|]", line))
        assert f"`{card.stem}`" in row
        assert all(f"`{split}`" in row for split in (*card.splits[1:], *card.train))
        assert ("¹" in row) == (card.mteb is None and card.hub is None)
        assert ("²" in row) == (not card.complete)
    for suite in (*SUITES, *MTEB_SUITES):
        assert f"`{suite}`" in text


def test_sample_counts() -> None:
    folder = ROOT / "src" / "m3e" / "assets" / "samples"
    text = read(folder / "README.md")
    for file in sorted(folder.glob("*.jsonl")):
        rows = len(read(file).splitlines())
        assert f"| `{file.name}` | {rows} |" in text


def test_the_readmes_figures_are_those_of_the_results() -> None:
    results = json.loads(read(ROOT / "benchmarks" / "results" / "spine.json"))
    part = results["parts"]["quickstart/m3e-small"]
    for readme in (ROOT / "README.md", ROOT / "README.en.md"):
        text = read(readme)
        for name in ("recall_at_1", "mrr_at_10", "ndcg_at_10", "general"):
            assert f"| `{name}` | {part['before'][name]:.3f} | {part['after'][name]:.3f} |" in text
        assert results["machines"]["quickstart/m3e-small"]["cpu"] in text


def test_pages_of_benchmarks_say_what_the_results_say() -> None:
    namespace = runpy.run_path(str(ROOT / "benchmarks" / "pages.py"))
    for path, language in namespace["PAGES"].items():
        assert read(path) == namespace["page"](language), "run python benchmarks/pages.py"


def test_the_page_of_experiments_says_what_was_measured() -> None:
    namespace = runpy.run_path(str(ROOT / "scripts" / "experiments.py"))
    assert read(ROOT / "docs" / "experiments.md") == namespace["page"](), "run python scripts/experiments.py tables"
