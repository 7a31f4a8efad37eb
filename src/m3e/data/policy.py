"""Which sets a model may be trained on, by their licences: what is unknown is not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from m3e.catalogue.cards import DatasetCard
from m3e.errors import DataError, SettingsError

Policy = Literal["any", "commercial"]
POLICIES: tuple[str, ...] = get_args(Policy)


def apply_policy(
    cards: Sequence[DatasetCard], policy: str, *, named: Sequence[str] = ()
) -> tuple[list[DatasetCard], list[str]]:
    """The cards that the policy allows, and lines that say what it costs.

    Args:
        policy: ``any``, or ``commercial``, which keeps only sets whose card says ``yes``.
        named: sets that the user asked for by name, not as part of a group: leaving one of these out in
            silence would be wrong.

    Raises:
        SettingsError: there is no such policy.
        DataError: a set asked for by name is not allowed, or none is left.
    """
    if policy not in POLICIES:
        raise SettingsError(f"--policy {policy!r} is not known; choose {' or '.join(POLICIES)}")
    if policy == "any":
        return list(cards), []
    kept = [card for card in cards if card.commercial == "yes"]
    refused = [card for card in cards if card.commercial != "yes"]
    asked = [f"{card.name} ({card.commercial}: {card.licence.stated})" for card in refused if card.name in named]
    if asked:
        raise DataError(
            f"--policy {policy} does not allow {'; '.join(asked)}; leave them out, or use --policy any for research"
        )
    if not kept:
        raise DataError(f"--policy {policy} leaves none of the {len(cards)} sets; m3e data list shows each one's terms")
    return kept, [*_refusals(refused, policy), *_losses(cards, kept, policy)]


def _refusals(refused: Sequence[DatasetCard], policy: str) -> list[str]:
    lines = []
    for flag in ("no", "unknown"):
        names = [card.name for card in refused if card.commercial == flag]
        if names:
            lines.append(
                f"--policy {policy} leaves out {len(names)} sets whose commercial use is {flag}: {', '.join(names)}"
            )
    return lines


def _losses(cards: Sequence[DatasetCard], kept: Sequence[DatasetCard], policy: str) -> list[str]:
    """A warning for each category and for English, where sets had it and those that are left have not."""
    lines = []
    for category in dict.fromkeys(card.category for card in cards):
        if not any(card.category == category for card in kept):
            lines.append(f"warning: --policy {policy} leaves no set of category {category}")
    if any("en" in card.languages for card in cards) and not any("en" in card.languages for card in kept):
        lines.append(f"warning: --policy {policy} leaves no English set")
    return lines
