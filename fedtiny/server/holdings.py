"""What each client still holds of earlier orders, in as little memory as it takes."""

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from weakref import WeakKeyDictionary, WeakValueDictionary

from fedtiny.payload.codec import Held
from fedtiny.server.fingerprint import fingerprint
from fedtiny.sparse.mask import Mask

__all__ = ["Holdings"]


class Holdings(MutableMapping[int, Held]):
    """Client -> what it holds. Clients that hold the same share one `Held`, and equal masks are one mask.

    So it grows with the number of different masks that clients hold, not with that of clients. What nobody holds any
    more is forgotten.
    """

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._known: WeakValueDictionary[tuple[object, ...], Held] = WeakValueDictionary()
        self._masks: WeakValueDictionary[str, Mask] = WeakValueDictionary()  # by fingerprint
        self._prints: WeakKeyDictionary[Mask, str] = WeakKeyDictionary()  # a mask never changes

    def __getitem__(self, client: int) -> Held:
        return self._held[client]

    def __setitem__(self, client: int, held: Held) -> None:
        mask = self._mask(held.mask)
        same = held if mask is held.mask else replace(held, mask=mask)
        # A key names objects by their ids: they live as long as the `Held` does that it leads to.
        self._held[client] = self._known.setdefault(same.key, same)

    def __delitem__(self, client: int) -> None:
        del self._held[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _mask(self, mask: Mask | None) -> Mask | None:
        if mask is None:
            return None
        if mask not in self._prints:
            self._prints[mask] = fingerprint({}, mask)
        return self._masks.setdefault(self._prints[mask], mask)
