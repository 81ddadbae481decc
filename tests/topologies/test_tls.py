"""TLS, with certificates on both sides: to one server, to sentinels and the master they name, and in a cluster.

The servers of the tests need not know TLS: a proxy in front of them does.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from docket import Docket
from docket.errors import InvalidURL, RedisUnavailable
from tests._proxy import running_proxy
from tests._servers import RedisServer
from tests._topologies import SLOTS, Node, ask
from tests.topologies._work import works


class Certificates:
    """These are the certificates of a server and of a client, and who vouches for them."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.folder = folder
        authority.cert_pem.write_to_path(folder / "ca.pem")
        stranger.cert_pem.write_to_path(folder / "stranger.pem")
        for name, signer in (("client", authority), ("forged", stranger)):
            issued = signer.issue_cert("client.example")
            issued.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
            issued.private_key_pem.write_to_path(folder / f"{name}.key")
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued: Any = authority.issue_cert("127.0.0.1")  # its methods are typed for another library as well, which is not here
        issued.configure_cert(self.server)
        cast("Any", authority).configure_trust(self.server)
        self.server.verify_mode = ssl.CERT_REQUIRED

    def options(self, *, ca: str = "ca", client: str | None = "client") -> str:
        """This is the end of a URL."""
        found = f"?ssl_ca_certs={self.folder}/{ca}.pem"
        return found if client is None else f"{found}&ssl_certfile={self.folder}/{client}.crt&ssl_keyfile={self.folder}/{client}.key"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_a_server_is_reached_with_a_certificate(redis_server: RedisServer, certificates: Certificates, docket_name: str, scheme: str):
    async with running_proxy(redis_server.port, certificates.server) as proxy:
        async with Docket(docket_name, proxy.url.replace("rediss", scheme) + certificates.options()) as docket:
            await works(docket)
        assert proxy.accepted >= 2


@pytest.mark.parametrize(
    ("ca", "client", "found"),
    [
        ("stranger", "client", "CERTIFICATE_VERIFY_FAILED"),
        ("ca", None, "certificate.required|handshake failure|closed|reset"),
        ("ca", "forged", "unknown.ca|certificate|closed|reset"),
    ],
)
async def test_a_certificate_that_does_not_do_is_an_error_at_once(
    redis_server: RedisServer, certificates: Certificates, docket_name: str, ca: str, client: str | None, found: str
):
    begun = time.monotonic()
    async with running_proxy(redis_server.port, certificates.server) as proxy:
        with pytest.raises(RedisUnavailable, match=f"(?i){found}"):
            async with Docket(docket_name, proxy.url + certificates.options(ca=ca, client=client)):
                pytest.fail("it got in")

    assert time.monotonic() - begun < 4


async def test_a_server_that_speaks_no_tls_is_an_error_and_no_silence(redis_server: RedisServer, certificates: Certificates, docket_name: str):
    with pytest.raises(RedisUnavailable, match="(?i)ssl|tls|closed|reset"):
        async with Docket(docket_name, redis_server.url.replace("redis", "rediss") + certificates.options()):
            pytest.fail("it got in")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_is_not_there_is_named(docket_name: str, option: str):
    with pytest.raises(InvalidURL, match=f"{option}=/no/such/file.pem, and there is no such file"):
        async with Docket(docket_name, f"rediss://localhost?{option}=/no/such/file.pem"):
            pytest.fail("it got in")


async def test_sentinels_and_the_master_they_name_are_reached_with_a_certificate(
    new_server: Callable[..., RedisServer], certificates: Certificates, docket_name: str, tmp_path: Path
):
    """The sentinel is told the proxy's port, and cannot itself reach what is behind; it names it all the same."""
    async with running_proxy(new_server().port, certificates.server) as master:
        sentinel = _Naming(master.port, tmp_path)
        sentinel.start()
        try:
            async with running_proxy(sentinel.port, certificates.server) as front:
                url = f"rediss+sentinel://127.0.0.1:{front.port}/mymaster/0{certificates.options()}"
                async with Docket(docket_name, url) as docket:
                    await works(docket)
                assert front.accepted >= 1
                assert master.accepted >= 2
        finally:
            sentinel.remove()


class _Naming(Node):
    """This is a sentinel that names a master on this port."""

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__()
        self._file = folder / "sentinel.conf"
        self._named = port

    def command(self) -> list[str]:
        self._file.write_text(f"port {self.port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {self._named} 1\n")
        return [super().command()[0], str(self._file), "--sentinel"]


async def test_a_cluster_is_reached_with_a_certificate(certificates: Certificates, docket_name: str):
    """Its only node says that it is where the proxy is."""
    node = Node("--cluster-enabled", "yes")
    try:
        async with running_proxy(node.port, certificates.server) as proxy:
            node.arguments = (*node.arguments, "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(proxy.port))
            node.start()
            ask(node.port, "CLUSTER", "ADDSLOTS", *(str(slot) for slot in range(SLOTS)))
            url = f"rediss+cluster://127.0.0.1:{proxy.port}{certificates.options()}"
            while "cluster_state:ok" not in ask(node.port, "CLUSTER", "INFO"):
                time.sleep(0.02)
            async with Docket(docket_name, url) as docket:
                await works(docket)
            assert proxy.accepted >= 3
    finally:
        node.remove()
