from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from made.bucket import Proxy, proxy_to, reach, s3_server
from made.teacher import tiny_params, tiny_weights

__all__ = ["tiny_params", "tiny_weights"]
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def proxy_of_session() -> Iterator[Proxy]:
    with proxy_to(s3_server()) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_of_session: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before the server, without faults; the environment has a user's credentials and the way there."""
    reach(proxy_of_session, monkeypatch)
    yield proxy_of_session
    proxy_of_session.faults.clear()
    proxy_of_session.seen.clear()


@pytest.fixture
def url(proxy: Proxy) -> str:
    """A bucket that is there and empty."""
    import s3fs

    name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
    s3fs.S3FileSystem().mkdir(name)
    proxy.seen.clear()
    return f"s3://{name}/of/us"
