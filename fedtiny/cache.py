"""The folder in which a machine keeps what it made once: decoded data sets, compiled kernels, measured choices."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """$FEDTINY_CACHE, or ~/.cache/fedtiny."""
    return Path(os.environ.get("FEDTINY_CACHE", "~/.cache/fedtiny")).expanduser()
