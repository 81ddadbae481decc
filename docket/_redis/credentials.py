"""Credentials for every new connection, from an object of the user's. What it gives and what it raises is seen by nobody else."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import redis.exceptions
from redis.credentials import CredentialProvider

__all__ = ["Provided"]

logger = logging.getLogger("docket.redis")


class Provided(CredentialProvider):
    """This asks the user's provider: its `get_credentials_async` where it has one, else `get_credentials` in a thread, since it may take its time."""

    def __init__(self, provider: CredentialProvider) -> None:
        self._provider: Any = provider
        asking = getattr(type(provider), "get_credentials_async", None)
        self._is_async = asking not in (None, CredentialProvider.get_credentials_async)  # redis-py's own would ask in the event loop

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        try:
            if self._is_async:
                found: Any = await self._provider.get_credentials_async()
            else:
                found = await anyio.to_thread.run_sync(self._provider.get_credentials, abandon_on_cancel=True)
        except Exception as exc:  # noqa: BLE001 - the user's code; what it says may name a secret, so its place has to do
            last = traceback.extract_tb(exc.__traceback__)[-1]
            problem = f"raised {type(exc).__name__} ({Path(last.filename).name}, line {last.lineno})"
        else:
            given: tuple[Any, ...] = tuple(cast("Any", found)) if isinstance(found, (tuple, list)) else ()
            if len(given) in (1, 2) and all(isinstance(each, (str, bytes)) for each in given):
                return cast("tuple[str] | tuple[str, str]", given)
            kind: type = type(cast("object", found))
            problem = f"gave a {kind.__name__}, and a tuple of a user and a password, or of a password, was wanted"
        raise redis.exceptions.ConnectionError(f"the credential provider {problem}")

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """This is for clients that are not asynchronous, and there are none here."""
        raise NotImplementedError
