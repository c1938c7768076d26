"""Files that are there whole or not at all."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["replaced", "sole", "write_whole"]


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
    except (OSError, SafetensorError) as error:
        failure = error if isinstance(error, OSError) else OSError(str(error))
        raise OSError(failure.errno or errno.EIO, failure.strerror or str(failure), str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path`; a process that ends on the way, however it ends, leaves what was there before."""
    with replaced(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def sole(folder: Path) -> Iterator[bool]:
    """Whether no other process is in such a context of this folder; if so, none gets in until this one leaves, or ends.

    The lock is the folder's own: a lock on a file in it would be lost when the file is replaced.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
