"""What another library's exception says, in a line."""

__all__ = ["reason"]


def reason(error: Exception) -> str:
    """The first line of its message, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
