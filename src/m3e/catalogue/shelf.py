"""All cards together: those that ship with m3e, and those of the folder that ``M3E_DATA`` names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from m3e.catalogue.cards import Category, Commercial, DatasetCard, read_card
from m3e.catalogue.local import data_folder, read_catalogue
from m3e.errors import DataError

SETS = Path(__file__).parent / "sets"
GROUPS = ("all", "m3e", "shipped", "local")
"""Words that name many sets at once: every set that trains, the 29 of the M3E table, ours, the folder's."""


@cache
def shipped_cards() -> tuple[DatasetCard, ...]:
    """The cards that ship with m3e, by name.

    Raises:
        DataError: a card is damaged.
    """
    return tuple(sorted(map(read_card, SETS.glob("*.toml")), key=lambda card: card.name.lower()))


def all_cards(folder: Path | None = None) -> list[DatasetCard]:
    """The shipped cards, then those of a folder with a ``catalogue.csv``.

    A set of the folder whose name a shipped card has goes by ``local/NAME``.

    Args:
        folder: ``M3E_DATA`` by default, where it is set.

    Raises:
        DataError: a card or the folder's catalogue is damaged.
    """
    shipped = shipped_cards()
    folder = folder or data_folder()
    if folder is None or not (folder / "catalogue.csv").is_file():
        return list(shipped)
    taken = {card.name for card in shipped}
    local = [
        card.model_copy(update={"name": f"local/{card.name}"}) if card.name in taken else card
        for card in read_catalogue(folder)
    ]
    return [*shipped, *local]


def find_card(name: str, cards: Sequence[DatasetCard]) -> DatasetCard:
    """The card of that name, whatever its case where only one has it.

    Raises:
        DataError: there is none; the message has the names most like it.
    """
    for card in cards:
        if card.name == name:
            return card
    alike = [card for card in cards if card.name.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    names = [card.name for card in cards]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    raise DataError(
        f"there is no data set {name!r} in the catalogue; "
        f"{'like it: ' + ', '.join(near) if near else 'm3e data list shows all'}; a file needs its path"
    )


def select_cards(names: Iterable[str], cards: Sequence[DatasetCard]) -> list[DatasetCard]:
    """The cards that names and groups (:data:`GROUPS`) stand for, each once, in the order named.

    Of a group, those that can be trained on.

    Raises:
        DataError: a name is in no card.
    """
    chosen: dict[str, DatasetCard] = {}
    shipped = {card.name for card in shipped_cards()}
    for name in names:
        if name in GROUPS:
            members = [card for card in cards if card.trains and _is_in(name, card, card.name in shipped)]
        else:
            members = [find_card(name, cards)]
        chosen |= {card.name: card for card in members}
    return list(chosen.values())


def _is_in(group: str, card: DatasetCard, shipped: bool) -> bool:
    return {"all": True, "m3e": card.seed is not None, "shipped": shipped, "local": not shipped}[group]


def filter_cards(
    cards: Iterable[DatasetCard],
    *,
    category: Category | None = None,
    domain: str | None = None,
    language: str | None = None,
    commercial: Commercial | None = None,
    in_m3e_table: bool | None = None,
    use: str | None = None,
) -> list[DatasetCard]:
    """The cards that fit every condition that is given; a domain fits where it holds the words."""
    return [
        card
        for card in cards
        if (category is None or card.category == category)
        and (domain is None or domain.lower() in card.domain.lower())
        and (language is None or language in card.languages)
        and (commercial is None or card.commercial == commercial)
        and (in_m3e_table is None or (card.seed is not None) == in_m3e_table)
        and (use is None or card.use == use)
    ]
