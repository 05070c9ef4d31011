"""Keys never cross a network in clear: what the client does about TLS."""

from pathlib import Path

import grpc
import pytest
import trustme

from adaptory.client import AdaptoryClient, RpcFailed
from adaptory.serve.v1 import serve_service_pb2 as pb
from adaptory.serve.v1 import serve_service_pb2_grpc
from tests.fakes.services import KEY, Script, ScriptedServe


@pytest.fixture
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


async def _ask(authority: trustme.CA, ca_file: Path | None) -> pb.ChatUnaryResponse:
    certificate = authority.issue_cert("localhost")
    key, chain = certificate.private_key_pem.bytes(), b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = grpc.aio.server()
    serve_service_pb2_grpc.add_ServeServiceServicer_to_server(ScriptedServe(Script()), server)
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    try:
        async with AdaptoryClient(KEY, server=f"localhost:{port}", ca_file=ca_file) as client:
            return await client.chat.ask("tenants/aurora/bots/faq", "How long?")
    finally:
        await server.stop(None)


async def test_private_authority_is_trusted_when_given(authority: trustme.CA, tmp_path: Path) -> None:
    """A server behind the operator's own authority is called over TLS."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert (await _ask(authority, tmp_path / "ca.pem")).text == "You have 45 days."


async def test_foreign_authority_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    """A server whose certificate another authority issued never sees a request, nor its key."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with pytest.raises(RpcFailed, match="cannot be reached"):
        await _ask(authority, tmp_path / "ca.pem")
