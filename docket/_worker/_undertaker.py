"""Dead letters, on the worker's side: keeps them within their bounds, and tells whoever wants to know of each. Writing them is part of settling a run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING

from docket._dead import DeadLetter
from docket._redis.batcher import BATCH_ITEMS
from docket._worker._service import Service

if TYPE_CHECKING:
    from docket._store.records import RunId

__all__ = ["Undertaker"]

logger = logging.getLogger("docket.worker")

INTERVAL = 60.0


class Undertaker(Service):
    """This takes care of dead letters."""

    name = "care of dead letters"

    async def tick(self) -> float:
        thrown_away = [await shard.letters.trim(self._crew.server_now_us()) for shard in self._crew.store.shards]
        return 0.0 if max(thrown_away) >= BATCH_ITEMS else INTERVAL

    async def buried(self, run: RunId) -> None:
        """This hands a letter that was written just now to the docket's `on_dead`, which has `cleanup_timeout` for it. What that raises is logged."""
        docket = self._crew.docket
        on_dead = docket.options.on_dead
        if on_dead is None:
            return
        try:
            letter = await docket.store.shard_of(run.key).letters.whole(str(run.generation))
            if letter is not None:
                told = on_dead(DeadLetter(docket, letter))
                if inspect.isawaitable(told):
                    await asyncio.wait_for(told, self._crew.options.cleanup_timeout.total_seconds())
        except Exception:
            logger.exception("on_dead failed for %s; the dead letter is there all the same", run.key, extra=self._crew.labels)
