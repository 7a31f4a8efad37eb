"""What ``m3e export`` says of a folder that it wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from m3e.errors import ModelError
from m3e.files import read_json

EXPORT_FILE = "m3e_export.json"


@dataclass(frozen=True)
class Exported:
    """A graph in a model folder.

    Attributes:
        format: ``onnx`` or ``openvino``.
        file: the graph.
        dtype: ``fp32`` or ``int8``, of its weights.
    """

    format: str
    file: Path
    dtype: str


def read_exported(folder: str | os.PathLike[str]) -> Exported | None:
    """The graph that ``m3e export`` put into ``folder``; ``None`` where there is none.

    Raises:
        ModelError: the folder says that it has one, and the file is missing.
    """
    root = Path(folder)
    if not (root / EXPORT_FILE).is_file():
        return None
    try:
        facts = read_json(root / EXPORT_FILE)
        exported = Exported(facts["format"], root / facts["file"], facts.get("quantised") or "fp32")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{root / EXPORT_FILE} cannot be read; run m3e export again") from error
    if exported.format not in ("onnx", "openvino"):
        return None
    if not exported.file.is_file():
        raise ModelError(f"{exported.file}, which {EXPORT_FILE} names, is missing; run m3e export again")
    return exported
