"""Users, TLS and certificates, on servers that insist on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from cryptography import x509
from pymongo.errors import OperationFailure

from pollux_mongo import Client, errors
from tests.mongo.conftest import Run
from tests.mongo.servers import MongoServer
from tests.mongo.test_faults import refused_with

PASSWORD = "s3cr:t/@ü"


@dataclass(frozen=True)
class Certificates:
    """Files of PEM: the authority's, a client's with its key; where the server's are; and the client's name."""

    authority: Path
    client: Path
    subject: str
    server: tuple[str, ...]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_pem.write_to_path(folder / "server.key")
    for pem in server.cert_chain_pems:
        pem.write_to_path(folder / "server.pem", append=True)
    client = authority.issue_cert("client@example.org", common_name="client")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    name = x509.load_pem_x509_certificate(client.cert_chain_pems[0].bytes()).subject.rfc4514_string()
    name = name.replace("#", "\\#")  # which RFC 4514 asks for at the beginning alone; this server does so everywhere
    files = {"cert": "server.pem", "key": "server.key", "ca": "ca.pem"}
    options = tuple(text for what, file in files.items() for text in (f"--tls-{what}-file", str(folder / file)))
    return Certificates(folder / "ca.pem", folder / "client.pem", name, options)


@pytest.fixture(scope="module")
def users(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a server with two users, made while it asks for no password: one with, one with a certificate."""
    folder = tmp_path_factory.mktemp("users")
    with MongoServer(folder, "--sync-on-commit") as server:  # it is killed in the end
        server.command("shop", createUser="joe", pwd=PASSWORD, roles=["readWrite"])
        user = {"createUser": certificates.subject, "mechanisms": ["MONGODB-X509"]}
        server.command("$external", **user, roles=[{"role": "readWrite", "db": "shop"}])
    return folder


@pytest.fixture(scope="module")
def guarded(users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that asks for a password."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copytree(users, folder, dirs_exist_ok=True)
    with MongoServer(folder, "--auth") as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(
    users: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MongoServer]:
    """A server that speaks TLS alone, to clients with a certificate of its authority."""
    folder = tmp_path_factory.mktemp("encrypted")
    shutil.copytree(users, folder, dirs_exist_ok=True)
    with MongoServer(folder, "--auth", *certificates.server, "--tls-require-client-cert") as server:
        yield server


def test_scram_sha_256(run: Run, guarded: MongoServer) -> None:
    """By asyncmongo's options, where the user is looked for in the database; by a URI; and not at all."""

    async def main() -> None:
        where: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": guarded.port,
            "dbname": "shop",
            "serverSelectionTimeoutMS": 15_000,
        }
        both: list[dict[str, Any]] = [{}, {"authMechanism": "SCRAM-SHA-256", "authSource": "shop"}]
        for options in both:
            async with Client(f"{options}", dbuser="joe", dbpass=PASSWORD, **where, **options) as db:
                await db.things.save({"_id": 1})
                assert await db.things.find_one(1) == {"_id": 1}
        uri = f"mongodb://joe:{quote(PASSWORD, safe='')}@127.0.0.1:{guarded.port}/shop?authMechanism=SCRAM-SHA-256"
        async with Client(uri=uri) as db:
            assert await db.things.find_one(1) == {"_id": 1}
            assert PASSWORD not in repr(db)
            assert quote(PASSWORD, safe="") not in repr(db)
        async with Client("wrong", dbuser="joe", dbpass="wrong", **where) as db:
            with pytest.raises(errors.AuthenticationError) as caught:
                await db.things.find_one(1)
            assert caught.value.code == 18
            assert "wrong" not in str(caught.value)
        async with Client("nobody", **where) as db:
            with pytest.raises(OperationFailure, match="requires authentication"):
                await db.things.find_one(1)

    run(main())


def test_certificate_of_the_client(run: Run, encrypted: MongoServer, certificates: Certificates) -> None:
    """MONGODB-X509, all of it in the URI."""
    options = {
        "tls": "true",
        "tlsCAFile": certificates.authority,
        "tlsCertificateKeyFile": certificates.client,
        "authMechanism": "MONGODB-X509",
        "serverSelectionTimeoutMS": 15_000,
    }
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())

    async def main() -> None:
        async with Client(uri=f"mongodb://127.0.0.1:{encrypted.port}/shop?{query}") as db:
            await db.things.save({"_id": 1, "filling": "x" * 1_000_000})
            assert len((await db.things.find_one(1))["filling"]) == 1_000_000

    run(main())


@pytest.mark.parametrize("how", ["no certificate", "unknown authority", "no TLS"])
def test_stranger(run: Run, encrypted: MongoServer, certificates: Certificates, how: str) -> None:
    where: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": encrypted.port,
        "dbname": "shop",
        "serverSelectionTimeoutMS": 200,
    }
    options: dict[str, Any] = {
        "no certificate": {"tls": True, "tlsCAFile": str(certificates.authority)},
        "unknown authority": {"tls": True, "tlsCertificateKeyFile": str(certificates.client)},
        "no TLS": {},
    }[how]
    words = {"unknown authority": "CERTIFICATE_VERIFY_FAILED"}.get(how, "127.0.0.1")

    async def main() -> None:
        async with Client("stranger", **where, **options) as db:
            await refused_with(db, words)

    run(main())
