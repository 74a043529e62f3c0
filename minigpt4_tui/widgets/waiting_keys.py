"""Keys that are pressed while a list is being read: they wait for the rows that they are meant for."""

from __future__ import annotations


class WaitingKeys:
    """For lists: while `is_awaited`, actions given to `waits` are kept, and `release` carries them out."""

    is_awaited = False
    """Whether other rows than those shown are being read."""

    _waiting: tuple[str, ...] = ()

    def waits(self, action: str) -> bool:
        """Whether the action has to wait; it is then kept."""
        if self.is_awaited:
            self._waiting += (action,)
        return self.is_awaited

    def release(self) -> None:
        """Carry out the actions that have waited for the rows."""
        self.is_awaited = False
        waiting, self._waiting = self._waiting, ()
        for action in waiting:
            getattr(self, f"action_{action}")()
