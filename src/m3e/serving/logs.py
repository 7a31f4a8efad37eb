"""Structured logs: one JSON object a line, without texts and without keys."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

LEVELS = ("debug", "info", "warning", "error")

logger = logging.getLogger("m3e.serving")


class JsonFormatter(logging.Formatter):
    """Lines of JSON: time (UTC), level, event, and the record's ``facts``.

    Of an exception only its class and the places in the code are shown: its message may quote a text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False)


def log_config(level: str) -> dict[str, Any]:
    """Settings of Python's logging: ours and uvicorn's lines as JSON on stderr."""
    chosen = level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stderr}},
        "loggers": {
            "m3e.serving": {"handlers": ["stderr"], "level": chosen, "propagate": False},
            # its lines on start and stop say what ours say
            "uvicorn": {"handlers": ["stderr"], "level": max(chosen, "WARNING", key=_rank), "propagate": False},
        },
    }


def log(level: int, event: str, **facts: Any) -> None:
    """Log an event with its facts."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"facts": facts})


def _rank(level: str) -> int:
    return int(getattr(logging, level))
