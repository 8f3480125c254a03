"""A cluster that is encrypted with certificates, as Dask's configuration names them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_clusters import Cluster, bytes_of

from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates"),
]
ROWS = ("median", "--noise", "gaussian:0.1", "--no-timing", "--fresh")


def certificates(folder: Path, *roles: str) -> dict[str, str]:
    """A certificate that signs itself, as variables of Dask's configuration for these roles."""
    folder.mkdir()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=benchbox"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    variables = {"CA_FILE": certificate}
    for role in roles:
        variables |= {f"{role}__CERT": certificate, f"{role}__KEY": key}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(file) for name, file in variables.items()}


def test_an_encrypted_cluster_scores_the_same_and_takes_only_who_has_its_certificates(
    process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificates")
    own = certificates(tmp_path / "own", "SCHEDULER", "WORKER", "CLIENT")
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME", "tls")
    cluster = Cluster(tmp_path / "cluster")
    try:
        assert '"tls://127.0.0.1:' in cluster.file.read_text()
        cluster.add("a")
        process("run", *ROWS, "--scheduler-file", cluster.file, "--results", tmp_path / "tls")
        for name in own:
            monkeypatch.delenv(name)
        without = process("run", *ROWS, "--scheduler-file", cluster.file, code=2)
        assert "needs certificates, but Dask's configuration names none" in without.stderr
        for name, value in certificates(tmp_path / "other", "CLIENT").items():
            monkeypatch.setenv(name, value)
        refused = process("run", *ROWS, "--scheduler-file", cluster.file, code=2)
        assert "TLS certificate does not match" in refused.stderr
        assert "distributed.comm.tls" in refused.stderr
    finally:
        cluster.end()
    process("run", *ROWS, "--results", tmp_path / "local")
    encrypted, local = (bytes_of(RunStore.open(find_run(tmp_path / name))) for name in ("tls", "local"))
    assert encrypted == local
