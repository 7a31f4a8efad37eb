"""A model in another form: an ONNX or OpenVINO graph, or a static lookup; compared with the original, or refused.

What is written is a sentence-transformers folder that loads as ever, with the graph where sentence-transformers
looks for it and ``m3e_export.json``, which says what it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3e.errors import MissingExtraError, ModelError, SettingsError
from m3e.files import atomic_folder, check_output_folder, write_json, write_marker
from m3e.inference.backends.exported import EXPORT_FILE as EXPORT_FILE
from m3e.inference.export_report import Comparison, ExportReport

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Format = Literal["onnx", "openvino", "static"]

FILES: dict[str, str] = {
    "onnx": "onnx/model.onnx",
    "openvino": "openvino/openvino_model.xml",
    "static": "0_StaticEmbedding/model.safetensors",
}
"""Where each format's file lies in the folder: sentence-transformers' own places."""

FLOOR = 0.98
"""The lowest mean cosine to the original at which a graph is kept."""

_NEEDS = {"onnx": (("onnx", "onnx"), ("onnxruntime", "onnx")), "openvino": (("openvino", "openvino"),), "static": ()}


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    Attributes:
        format: ``onnx``, ``openvino`` or ``static``.
        quantise: ``int8``, or ``None`` for fp32.
        force: keep a graph whose vectors differ from the original's.
        texts: of the domain, for a static model: its tokens are weighed by how often they stand in them. The sample
            data where there are none.
        words: added to a static model's vocabulary, the most frequent first.
        dim: numbers a vector of a static model; ``None`` keeps the original's.

    Raises:
        SettingsError: a format or quantisation that is not known, or options of the other formats.
    """

    format: Format
    quantise: Literal["int8"] | None = None
    force: bool = False
    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    dim: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FILES:
            raise SettingsError(f"format {self.format!r} is not known; choose {', '.join(FILES)}")
        if self.quantise not in (None, "int8"):
            raise SettingsError(f"quantize {self.quantise!r} is not known; choose int8, or leave it out for fp32")
        if self.format != "static" and (self.texts or self.words or self.dim is not None):
            raise SettingsError(f"--texts, --words and --dim belong to --format static, not to {self.format}")


def export(
    model: str | os.PathLike[str] | SentenceTransformer,
    out: Path,
    options: ExportOptions,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Write ``model`` to the folder ``out`` and say how it compares with the original.

    Args:
        model: a name, folder, hub id, or a loaded model.
        overwrite: write beside files that are not ours.
        say: takes a line about each step.

    Raises:
        OutputExistsError: ``out`` holds something that an export of this format did not write.
        MissingExtraError: the format's library is not installed.
        ModelError: the model cannot be exported, or its graph is not close enough to it; nothing is left behind.
    """
    from m3e.models import load
    from m3e.models.loading import resolve_name

    step = f"export {options.format}"
    check_output_folder(out, overwrite=overwrite, step=step)
    _check_libraries(options.format)
    named = model if isinstance(model, str | os.PathLike) else None
    name = "a loaded model" if named is None else resolve_name(named)
    original = load(model, device="cpu") if isinstance(model, str | os.PathLike) else model
    with atomic_folder(out) as temporary:
        if options.format == "static":
            from m3e.inference.export_static import write_static_export

            comparison = write_static_export(original, temporary, options, say)
        else:
            comparison = _write_graph(original, temporary, options, say)
            _refuse_below_floor(name, comparison, options)
        report = ExportReport(name, out, options.format, FILES[options.format], options.quantise, comparison)
        write_json(temporary / EXPORT_FILE, _facts(original, report))
        (temporary / "README.md").write_text(_card(named, report), encoding="utf-8")
        write_marker(temporary, step, source=name)
    return report


def _check_libraries(kind: str) -> None:
    import importlib.util

    for package, extra in _NEEDS[kind]:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)


def _write_graph(
    model: SentenceTransformer, folder: Path, options: ExportOptions, say: Callable[[str], None]
) -> Comparison:
    from m3e.inference.export_check import compare
    from m3e.inference.graph import graph_inputs
    from m3e.models.folder import quiet_libraries, save

    graph_inputs(model)  # refuses what has no graph before anything is written
    save(model, folder)
    path = folder / FILES[options.format]
    path.parent.mkdir()
    write = _write_onnx if options.format == "onnx" else _write_openvino
    with quiet_libraries():
        made = write(model, path, options)
    say(f"{options.format} graph of {type(model[0].model).__name__}: {made}")
    # the encoder that is timed reads from it what to run; the figures follow
    told = {"format": options.format, "file": FILES[options.format], "quantised": options.quantise}
    write_json(folder / EXPORT_FILE, told)
    return compare(model, folder, options.format, say)


def _write_onnx(model: SentenceTransformer, path: Path, options: ExportOptions) -> str:
    """Write the graph; in words, what it is made of."""
    import onnx

    from m3e.inference.graph import transformer_onnx
    from m3e.inference.quantise import quantise_onnx, save_onnx

    plain = path.parent / "plain"
    plain.mkdir()
    graph = onnx.load(str(transformer_onnx(model, plain / "model.onnx")))
    shutil.rmtree(plain)
    made = "weights in fp32"
    if options.quantise:
        made = f"{quantise_onnx(graph)} weight matrices in int8, activations in 8 bits with a scale a token"
    save_onnx(graph, path)
    return made


def _write_openvino(model: SentenceTransformer, path: Path, options: ExportOptions) -> str:
    """Write the graph; in words, what it is made of."""
    import openvino

    from m3e.inference.graph import OUTPUT, transformer_openvino
    from m3e.inference.quantise import quantise_openvino

    graph = transformer_openvino(model)
    graph.outputs[0].get_tensor().set_names({OUTPUT, "last_hidden_state"})  # sentence-transformers asks for the latter
    made = "weights in fp32"
    if options.quantise:
        made = f"{quantise_openvino(graph)} weight matrices in int8, a scale a row; activations as they are"
    openvino.save_model(graph, str(path), compress_to_fp16=False)
    return made


def _refuse_below_floor(name: str, comparison: Comparison, options: ExportOptions) -> None:
    if comparison.cosine.mean < FLOOR and not options.force:
        raise ModelError(
            f"{name} as {options.format}{' int8' if options.quantise else ''}: the mean cosine to the original is "
            f"{comparison.cosine.mean:.4f}, below {FLOOR}; nothing was written; --force keeps it all the same"
        )


def _facts(model: SentenceTransformer, report: ExportReport) -> dict[str, Any]:
    from m3e.models.fingerprint import fingerprint

    facts = report.as_dict()
    facts.pop("folder")
    return facts | {"fingerprint": fingerprint(model), "versions": _versions(report.format)}


def _versions(kind: str) -> dict[str, str]:
    from importlib.metadata import version

    packages = ("m3e", "torch", "transformers", "sentence-transformers", *(package for package, _ in _NEEDS[kind]))
    return {package: version(package) for package in packages}


def _card(model: str | os.PathLike[str] | None, report: ExportReport) -> str:
    """The original's card, if it has one, and what was made of it."""
    source = _card_of(model) or f"# {report.model}\n"
    return f"{source.rstrip()}\n\n## Exported by m3e\n\n{report.as_markdown()}\n"


def _card_of(model: str | os.PathLike[str] | None) -> str | None:
    if model is None:
        return None
    from m3e.models.names import local_models, model_path

    text = os.fspath(model)
    folder = model_path(text) if text in local_models() and not Path(text).is_dir() else Path(text)
    card = folder / "README.md"
    return card.read_text(encoding="utf-8") if card.is_file() else None
