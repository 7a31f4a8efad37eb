"""A file that is read more than once must be the same file each time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3e.errors import DataError


@dataclass(frozen=True)
class FileState:
    """How a file looked when it was first opened.

    Attributes:
        path: the file.
        name: what messages call it.
        size: in bytes.
        modified: nanoseconds since the epoch.
    """

    path: Path
    name: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path, name: str) -> FileState:
        """The state of ``path`` now.

        Raises:
            OSError: there is no such file.
        """
        stat = path.stat()
        return cls(path, name, stat.st_size, stat.st_mtime_ns)

    def check(self) -> None:
        """Refuse a file that is not as it was, rather than mix rows of two files.

        Raises:
            DataError: its size or its time of change differ.
            OSError: the file is gone.
        """
        if self != FileState.of(self.path, self.name):
            raise DataError(f"{self.name} changed while it was read; read it again when nothing writes to it any more")
