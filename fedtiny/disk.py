"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced", "write_whole"]


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; at the end it is flushed to the disk and takes the place of `path`.

    Raises:
        OSError: It cannot be written, with `path` as its file; what was at `path` is still there.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        yield scratch
        _flush(scratch)
        scratch.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path`; a process that ends on the way, however it ends, leaves what was there before."""
    with replaced(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
