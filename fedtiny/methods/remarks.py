"""What a user should know of a schedule of adjustments before a run starts."""

from fedtiny.sparse.schedule import adjustment

__all__ = ["schedule_remarks"]


def schedule_remarks(rounds: int, adjust_every: int, stop_round: int) -> tuple[str, ...]:
    """A line if the mask would never move, or moves when it is too late.

    Args:
        rounds: Rounds of the run.
        adjust_every: Rounds from one adjustment to the next.
        stop_round: The round from which the mask is final.
    """
    moving = [r for r in range(min(rounds, stop_round)) if adjustment(r, adjust_every, stop_round) is not None]
    if not moving:
        return (
            f"the mask never moves: no round before method.stop_round ({stop_round}) and rounds ({rounds}) is "
            f"a multiple of method.adjust_every ({adjust_every})",
        )
    if moving[-1] == rounds - 1:
        return (
            f"the last of {rounds} rounds still moves the mask, and what it grows is never trained; a "
            f"method.stop_round below {rounds} avoids it",
        )
    return ()
