"""What the duties of one worker share: the docket and its store, the options, who this instance is, and what the server's clock says."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from docket._stopping import Stopping

if TYPE_CHECKING:
    from docket._clock import Clock
    from docket._options import WorkerOptions
    from docket._payloads import Payloads
    from docket._registry import Registry
    from docket._store import Store
    from docket.docket import Docket
    from docket.worker import Worker

__all__ = ["Crew"]


class Crew:
    """This is one worker at work."""

    def __init__(self, worker: Worker, docket: Docket, options: WorkerOptions, stopping: Stopping | None = None) -> None:
        self.stopping = stopping or Stopping()
        """Whether the worker was told to stop, for whoever wants to see it coming."""
        self.worker = worker
        self.docket = docket
        self.options = options
        self.store: Store = docket.store
        self.payloads: Payloads = docket.payloads.accepting(options.accept)
        """What reads arguments here: as the docket does, or less."""
        self.registry: Registry = docket.registry
        self.clock: Clock = docket.clock
        self.labels: dict[str, Any] = {
            "docket.name": docket.name,
            "docket.worker": options.name,
            "docket.queue_key": self.store.keys.queue,
            "docket.stream_key": self.store.keys.stream,
        }
        self.server_offset_us = 0
        """How far the server's clock is ahead of ours, as last learnt from a reply."""
        self.instance = ""
        self.begin_anew()

    def another_instance(self) -> str:
        """This makes up an identity that nobody has had."""
        return f"{self.options.name}~{secrets.token_hex(4)}"

    def begin_anew(self, instance: str | None = None) -> str:
        """This takes on a new identity, as at the start and whenever the lease was lost, and answers the old one."""
        former, self.instance = self.instance, instance or self.another_instance()
        return former

    def server_now_us(self) -> int:
        """This gives the server's time, as far as it is known."""
        return self.clock.now_us() + self.server_offset_us

    @property
    def lease_seconds(self) -> float:
        """This is how long a lease stands without being renewed."""
        return self.options.redelivery_timeout.total_seconds()
