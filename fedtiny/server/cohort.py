"""Who takes part in a round."""

from fedtiny import seeds

__all__ = ["cohort"]


def cohort(clients: int, size: int | None, seed: int, round: int) -> list[int]:
    """The clients of one round, ascending: all of them, or `size` drawn without replacement for this round alone."""
    if size is None or size >= clients:
        return list(range(clients))
    drawn = seeds.stream(seed, "cohort", round).choice(clients, size, replace=False)
    return sorted(int(client) for client in drawn)
