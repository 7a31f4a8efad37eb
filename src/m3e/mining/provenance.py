"""Which model made the data, and under which terms it stands: for the manifest, and from there for model cards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m3e.data.manifest import MANIFEST, commercial_use, read_manifest
from m3e.models import licences
from m3e.models.loading import resolve_name
from m3e.models.names import known_models
from m3e.models.readme import read_card


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
    """What is known of a model: of a named one from the list, else from its card and the data it was trained on."""
    folder = Path(model).expanduser()
    known = None if folder.is_dir() else known_models().get(model)
    if known is not None:
        return ModelFacts(model, fingerprint, known.licence, known.commercial)
    stated = read_card(model).licence
    terms: list[str] = [licences.commercial_use(stated or "")]
    if (folder / MANIFEST).is_file():
        terms.append(commercial_use(read_manifest(folder)))
    return ModelFacts(resolve_name(model), fingerprint, stated or "not stated", licences.strictest(terms))
