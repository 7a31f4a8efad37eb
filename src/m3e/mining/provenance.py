"""Which model made the data, and under which terms it stands: for the manifest, and from there for model cards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from m3e.models.loading import resolve_name
from m3e.models.names import local_models


@dataclass(frozen=True)
class ModelFacts:
    """A model that made data.

    Attributes:
        fingerprint: SHA-256 over its weights, or what is known of a model behind an endpoint.
        licence: as stated; ``not stated`` where it is not known.
        commercial: ``yes``, ``no`` or ``unknown``.
    """

    name: str
    fingerprint: str
    licence: str = "not stated"
    commercial: str = "unknown"

    def as_dict(self) -> dict[str, Any]:
        """The facts as a JSON object."""
        return asdict(self)


def facts_of_model(model: str, fingerprint: str) -> ModelFacts:
    """What is known of a model: of ours from their list, of a folder from its model card."""
    known = local_models().get(model)
    if known is not None and not Path(model).is_dir():
        return ModelFacts(model, fingerprint, known.licence, known.commercial)
    return ModelFacts(resolve_name(model), fingerprint, stated_licence(Path(model)) or "not stated")


def stated_licence(folder: Path) -> str | None:
    """The licence that the head of a model folder's ``README.md`` states, where it has one."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    _, *parts = card.read_text(encoding="utf-8", errors="replace").split("---\n")
    try:
        head = yaml.safe_load(parts[0]) if parts else None
    except yaml.YAMLError:
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return licence if isinstance(licence, str) and licence not in ("other", "unknown") else None
