"""What a model's own ``README.md`` says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelCard:
    """What a model's ``README.md`` says: licence, languages, and the text below its head."""

    licence: str | None = None
    languages: tuple[str, ...] = ()
    text: str = ""


def read_card(model: str, revision: str | None = None) -> ModelCard:
    """The card of a local model, a folder or a hub id whose files are here; an empty one where there is none."""
    readme = _readme(model, revision)
    if readme is None:
        return ModelCard()
    text = readme.read_text(encoding="utf-8", errors="replace")
    head, body = _split(text)
    languages = head.get("language") or ()
    licence = head.get("license")
    return ModelCard(
        licence=licence if isinstance(licence, str) and licence not in ("", "null") else None,
        languages=tuple(map(str, [languages] if isinstance(languages, str) else languages)),
        text=body.strip(),
    )


def _readme(model: str, revision: str | None) -> Path | None:
    from m3e.models.names import local_models, model_path

    folder = model_path(model) if model in local_models() and not Path(model).is_dir() else Path(model).expanduser()
    if (folder / "README.md").is_file():
        return folder / "README.md"
    if folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "README.md", revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _split(text: str) -> tuple[dict[str, Any], str]:
    """The head of YAML and the text below it."""
    import yaml

    if not text.startswith("---\n"):
        return {}, text
    head, end, body = text[4:].partition("\n---\n")
    if not end:
        return {}, text
    try:
        # all is text: to YAML's own reading, Norwegian (no) is false
        value = yaml.load(head, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return {}, body
    return (value if isinstance(value, dict) else {}), body
