"""What the page shows about a model: facts of the encoder, and of the model's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m3e.models.readme import ModelCard

if TYPE_CHECKING:
    from m3e.serving.service import Service


def card_object(service: Service, card: ModelCard, store: dict[str, Any] | None) -> dict[str, Any]:
    """The answer of ``/card``.

    Args:
        service: that is asked.
        card: of its model.
        store: ``{"url_kind", "rows"}``, or ``None`` where there is none.
    """
    encoder = service.encoder
    return {
        "model": service.ids.name,
        "ids": service.ids.all,
        "dimension": encoder.dimension,
        "max_length": encoder.model.max_seq_length if encoder.backend != "static" else None,
        "dtype": encoder.dtype,
        "backend": encoder.backend,
        "licence": card.licence,
        "languages": list(card.languages),
        "prompts": {name: prompt for name, prompt in (encoder.model.prompts or {}).items() if prompt},
        "card": card.text,
        "store": store,
        "key_required": bool(service.keys),
    }
