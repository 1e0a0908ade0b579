"""`python -m inference weights …` lists, fetches, checks and evicts, and errs in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.__main__ import main
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.manifest import Manifest
from tests.inference.engine.weights.conftest import WEIGHTS
from tests.inference.engine.weights.hub import HubServer
from tests.inference.engine.weights.models import write_model
from tests.inference.process import ROOT, bare_environment

Command = Callable[..., tuple[int, str, str]]
URI = "hub://acme/tiny"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("command"), 1)


@pytest.fixture(scope="session")
def digest(source: Path) -> str:
    return digest_of(source)


@pytest.fixture
def weights(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hub: HubServer,
    tmp_path: Path,
) -> Command:
    monkeypatch.setenv("WEIGHTS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for name in ("WEIGHTS_PEERS", "WEIGHTS_SERVE_PORT", "WEIGHTS_CACHE_BYTES", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inference", "weights", *arguments])
        capsys.readouterr()
        code = main()
        out, err = capsys.readouterr()
        # Lines of the log are JSON; what is said to the user is not.
        said = [line for line in err.splitlines() if not line.startswith("{")]
        return code, out, "\n".join(said)

    return run


def test_a_fetch_prints_the_digest_and_the_sources(weights: Command, digest: str) -> None:
    code, out, _ = weights("fetch", URI)
    assert code == 0
    first, last = out.splitlines()
    assert first.startswith("1.0 MB from hub 127.0.0.1:")
    assert last.startswith(f"{digest}  /")
    code, out, _ = weights("fetch", URI, "--digest", digest, "--json")
    answer = json.loads(out)
    assert (code, answer["digest"]) == (0, digest)
    assert [row["source"] for row in answer["sources"]] == ["cache"]


def test_the_list_names_what_is_here_and_whether_it_is_in_use(
    weights: Command, digest: str, hub: HubServer, make_store: Callable[..., WeightsStore]
) -> None:
    assert weights("list")[:2][0] == 0
    store = make_store("cache", hub_endpoint=hub.url)
    model = Model(uri=URI, digest=digest, family="flux")
    store.open(model)
    (row,) = json.loads(weights("list", "--json")[1])["models"]
    assert (row["digest"], row["files"], row["in_use"]) == (digest, 6, True)
    assert "in use" in weights("list")[1]
    code, _, err = weights("evict", digest)
    assert (code, err) == (1, f"inference: {digest} is in use")
    code, _, err = weights("evict", "--to", "1K")
    assert code == 1
    assert err.startswith("inference: ")
    assert "in use" in err
    store.release(model)
    (row,) = json.loads(weights("list", "--json")[1])["models"]
    assert not row["in_use"]


def test_an_eviction_takes_first_digits_a_size_or_all(weights: Command, digest: str) -> None:
    for arguments in ([digest[7:15]], ["--all"], ["--to", "100K"]):
        assert weights("fetch", URI)[0] == 0
        assert weights("evict", "--to", "1G")[0] == 0
        assert json.loads(weights("list", "--json")[1])["models"]
        code, out, _ = weights("evict", *arguments)
        assert code == 0
        assert out.startswith("0.0 MB in ")
        assert json.loads(weights("list", "--json")[1])["models"] == []


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_what_has_changed_is_found_removed_and_fetched_anew(
    weights: Command, digest: str, tmp_path: Path, harm: str
) -> None:
    weights("fetch", URI)
    assert weights("verify")[:2] == (0, f"{digest}  ok\n")
    file = tmp_path / "cache" / "models" / digest[7:] / WEIGHTS
    if harm == "gone":
        file.unlink()
    else:
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    code, out, err = weights("verify", digest)
    assert code == 1
    assert (
        out
        == f"{digest}  {file.relative_to(file.parents[1]) if harm != 'gone' else file.name}"
        + (" is gone\n" if harm == "gone" else " has changed\n")
    )
    assert "1 of 1 models had changed and were removed" in err
    assert weights("fetch", URI, "--digest", digest)[0] == 0
    assert digest_of(tmp_path / "cache" / "models" / digest[7:]) == digest


def test_a_manifest_is_written_beside_the_files(
    weights: Command, source: Path, digest: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    code, out, _ = weights("manifest", str(copy))
    assert (code, out) == (0, f"{digest}  {copy / 'weights.manifest'}\n")
    assert Manifest.from_json((copy / "weights.manifest").read_bytes()).digest == digest
    assert digest_of(copy) == digest


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["fetch", "https://example.org/x"], 1, "an address of an unknown kind"),
        (["fetch", "nope"], 1, "known are s3://BUCKET/PREFIX, hub://OWNER/NAME@REVISION, file:///"),
        (["fetch", "hub://acme/none"], 1, "HTTP 404"),
        (["fetch", URI, "--digest", "sha256:12"], 1, "64 hex digits"),
        (["fetch", URI, "--digest", "sha256:" + "0" * 64], 1, "have the digest sha256:"),
        (["verify", "abc"], 2, "no model here: abc"),
        (["evict", "sha256:"], 2, "no model here"),
        (["evict"], 2, "name digests, --all, or --to SIZE"),
        (["evict", "--to", "much"], 2, "--to must be a size"),
        (["manifest", "/no/such"], 2, "/no/such is no directory"),
        (["manifest", "/proc/self/fdinfo"], 1, "model_index.json is absent"),
        (["serve"], 2, "set WEIGHTS_SERVE_PORT"),
    ],
)
def test_a_mistake_is_one_line(
    weights: Command, arguments: list[str], code: int, says: str
) -> None:
    got, out, err = weights(*arguments)
    assert (got, out) == (code, "")
    assert err.startswith("inference: ")
    assert says in err
    assert "\n" not in err


def test_serve_serves_until_it_is_interrupted(
    weights: Command,
    digest: str,
    hub: HubServer,
    tmp_path: Path,
    make_store: Callable[..., WeightsStore],
) -> None:
    weights("fetch", URI)
    hub.given.clear()
    env = {**bare_environment(), "WEIGHTS_CACHE_DIR": str(tmp_path / "cache")}
    env |= {"WEIGHTS_SERVE_PORT": str(_free_port()), "WEIGHTS_PEER_TOKEN": "shared"}
    command = [sys.executable, "-m", "inference", "weights", "serve"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().removeprefix("serving weights at ").strip()
            assert url.startswith("http://127.0.0.1:")
            store = make_store("other", hub_endpoint=hub.url, peers=(url,), peer_token="shared")
            assert store.open(Model(uri=URI, digest=digest, family="flux")) is not None
            assert hub.given == []
            second = subprocess.run(
                command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
            )
            assert second.returncode == 1
            assert second.stderr == "inference: [Errno 98] Address already in use\n"
        finally:
            server.send_signal(2)
        assert server.wait(10) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
