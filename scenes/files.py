"""Output that is whole or absent: temporary names, then a rename; and folders tried before long work."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(ValueError):
    """A result cannot be written where it should be; the message says where and why."""


@contextmanager
def atomic(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends, and vanishes if it fails.

    The temporary name keeps the suffix, from which writers tell the format.

    Args:
        path: Of the file.
        alone: True where no other process writes the file: what one that was killed left is written over.

    Raises:
        OutputError: If the file cannot be written or renamed.
    """
    temporary = path.with_name(f".{path.stem}.{'part' if alone else os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def output_folder(path: Path) -> Path:
    """The folder `path`, made where it is missing, after a file was written there as a trial.

    Raises:
        OutputError: If it is no folder, or cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"cannot write into {path}: {_file_above(path)} is a file, not a folder") from error
    except OSError as error:
        raise OutputError(f"cannot write into {path}: {error.strerror or error}") from error
    return path


def _file_above(path: Path) -> Path:
    """The nearest of `path` and its parents that exists and is no folder."""
    return next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
