"""Which sets are prepared together, and how strictly: one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from m3e.data.filters import Filters
from m3e.data.near import THRESHOLD
from m3e.data.pipeline import PipelineOptions
from m3e.errors import M3EError, SettingsError
from m3e.faults import faults
from m3e.shipped_toml import names_in, read_toml

PRESETS = Path(__file__).parent / "presets"


class Preset(BaseModel):
    """What ``m3e data prepare`` does.

    Attributes:
        sets: names of the catalogue, groups (``all``, ``m3e``, ``shipped``, ``local``), files, folders.
        policy: ``any`` or ``commercial``.
        near_duplicates: the Jaccard similarity from which rows are near-duplicates; 0 keeps them.
        max_rows: of a set, by its name.
        weights: how often a set is drawn in training beside others, by its name; 1 by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "data"
    sets: tuple[str, ...] = ()
    policy: str = "any"
    normalise: bool = True
    simplified: bool = False
    near_duplicates: float = Field(default=THRESHOLD, ge=0, le=1)
    seed: int = 42
    max_rows: dict[str, PositiveInt] = {}
    weights: dict[str, PositiveFloat] = {}
    filters: dict[str, Any] = {}

    @property
    def options(self) -> PipelineOptions:
        """The same as the pipeline has them.

        Raises:
            SettingsError: a filter is unknown or cannot work.
        """
        return PipelineOptions(
            normalise=self.normalise,
            simplified=self.simplified,
            filters=Filters.of(self.filters),
            near_duplicates=self.near_duplicates or None,
            seed=self.seed,
        )


def shipped_presets() -> list[str]:
    """Names of the presets that ship with m3e."""
    return names_in(PRESETS)


def read_preset(name: str) -> Preset:
    """A shipped preset by name, or a TOML file.

    Raises:
        SettingsError: there is none, or it is not valid; the message names the file and the key.
    """
    values, source = read_toml(name, PRESETS, "preset")
    try:
        preset = Preset.model_validate(values)
        preset.options  # noqa: B018  # so that a wrong filter is named with its file
    except ValidationError as error:
        raise SettingsError(f"{source}: {faults(error)}") from error
    except M3EError as error:
        raise SettingsError(f"{source}: {error}") from error
    return preset
