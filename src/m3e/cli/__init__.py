"""The command line: each command parses, calls one function of a layer above, prints.

Exit codes: 0 done; 2 bad input or settings, one line on stderr; 3 done, but a named part is missing.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from m3e import __version__
from m3e.cli.terminal import complain
from m3e.errors import M3EError
from m3e.files import failed_write

app = typer.Typer(
    name="m3e",
    help="Chinese-first text embeddings: make models, judge them, put them to work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"m3e {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Chinese-first text embeddings: make models, judge them, put them to work."""


def main() -> None:
    """Run the command line and exit with the contract's code."""
    # a tokenizer's threads and the trainer's forks do not mix; the warning would be the user's first sight
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from m3e.cli import (  # noqa: F401
        data,
        encode,
        env,
        eval,
        export,
        finetune,
        index,
        mine,
        models,
        quickstart,
        report,
        serve,
        train,
    )

    try:
        code = app(standalone_mode=False)
    except M3EError as error:
        _end(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _end("stopped", 130)
    except Exception as error:
        # typer's usage errors have no public base class; all of them, and nothing else, can format themselves
        if hasattr(error, "format_message"):
            _end(error.format_message(), 2)
        reason = failed_write(error)
        if reason is not None:
            _end(reason, M3EError.exit_code)
        if _fails_first():
            raise
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _end(message: str, code: int) -> NoReturn:
    """Say what is wrong, of several processes once, and exit."""
    if _fails_first():
        complain(message)
    sys.exit(code)


def _fails_first() -> bool:
    """Whether this process is the one to say what is wrong: of those that train together, the first that failed."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from m3e.training.gather import fails_first

    return fails_first()
