"""TLS at the gateway, with certificates of an authority of the test's own."""

import asyncio
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.testing import running_envoy
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.integration.gateway.gateway_mesh import Executor, executor_service, serving

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments: str, folder: Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        told = "openssl is not installed (Debian: apt-get install openssl)"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder: Path) -> Path:
    """Make an authority; give its certificate."""
    outputs = ("-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-x509", *NEW_KEY, *outputs, "-subj", "/CN=test", "-days", "2", folder=folder)
    return folder / "ca.pem"


def certify(folder: Path, into: Path, *, serial: int) -> None:
    """Make a certificate and put it in its place, as one that renews them does."""
    fresh = folder / f"fresh-{serial}"
    fresh.mkdir()
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-set_serial", str(serial))
    outputs = ("-keyout", str(fresh / "tls.key"), "-out", str(fresh / "tls.crt"))
    openssl("req", "-x509", *NEW_KEY, *names, *signed, *outputs, folder=folder)
    for name in ("tls.key", "tls.crt"):
        (fresh / name).rename(into / name)


async def serial_of(target: str, ca: Path) -> int:
    """Give the serial number of the certificate that the gateway shows."""
    host, _, port = target.partition(":")
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object")
    writer.close()
    assert shown.selected_alpn_protocol() == "h2"
    return int(shown.getpeercert()["serialNumber"], 16)


async def test_tls_with_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    ca = authority(tmp_path)
    certify(tmp_path, certificates, serial=7)
    async with (
        serving(executor_service(Executor())) as executor_target,  # type: ignore[abstract]
        running_envoy(
            tmp_path,
            executor_target=executor_target,
            tls_certificate_file=str(certificates / "tls.crt"),
            tls_key_file=str(certificates / "tls.key"),
        ) as envoy,
    ):
        async with Client(f"https://{envoy.target}", ca_file=str(ca)) as client:
            assert (await client.get("abc")).task_id == "abc"
        async with Client(envoy.target) as cleartext:
            with pytest.raises(StepwireError) as caught:
                await cleartext.get("abc")
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        async with Client(f"https://{envoy.target}", ca_file="") as distrustful:
            with pytest.raises(StepwireError) as caught:
                await distrustful.get("abc")
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            assert "STEPWIRE_CA_FILE" in caught.value.message
        async with Client(f"https://{executor_target}", ca_file=str(ca)) as mistaken:
            with pytest.raises(StepwireError) as caught:
                await mistaken.get("abc")
            assert "without https://" in caught.value.message
        assert await serial_of(envoy.target, ca) == 7

        certify(tmp_path, certificates, serial=8)

        async def renewed() -> bool:
            return await serial_of(envoy.target, ca) == 8

        await eventually(renewed)
