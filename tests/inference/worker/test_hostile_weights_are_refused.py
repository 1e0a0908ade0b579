"""Weights that could run code, or are not what was registered, fail the job before they load."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.engine.weights import Model, digest_of
from inference.protocol import Usage
from tests.inference.control import Control
from tests.inference.process import WorkerProcess

pytestmark = pytest.mark.usefixtures("worker")
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
EVIL = "import pathlib; pathlib.Path({mark!r}).touch()\n\nclass Evil: ...\n"


class Hostile:
    """A copy of a good model that a vendor has tampered with; `mark` appears if code runs."""

    def __init__(self, directory: Path, mark: Path) -> None:
        self.directory = directory
        self.mark = mark

    def edit(self, name: str, **changes: Any) -> None:
        """Change keys of a JSON file."""
        path = self.directory / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def write(self, name: str, body: bytes) -> None:
        """Write a file."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.write_bytes(body)

    def code(self, name: str) -> None:
        """Write a module that leaves the mark when it is imported."""
        self.write(name, EVIL.format(mark=str(self.mark)).encode())

    def pickle(self, name: str) -> None:
        """Write a pickle that leaves the mark when it is read."""
        source = EVIL.format(mark=str(self.mark)).encode()
        argument = b"X" + struct.pack("<I", len(source)) + source
        self.write(name, b"\x80\x02cbuiltins\nexec\n" + argument + b"\x85R.")


def _pickle(hostile: Hostile) -> None:
    hostile.pickle("transformer/diffusion_pytorch_model.bin")


def _pickle_as_safetensors(hostile: Hostile) -> None:
    hostile.pickle(WEIGHTS)


def _code(hostile: Hostile) -> None:
    hostile.code("pipeline.py")


def _class_of_its_own(hostile: Hostile) -> None:
    hostile.edit("model_index.json", _class_name="EvilPipeline")


def _class_in_a_module(hostile: Hostile) -> None:
    hostile.edit("model_index.json", _class_name=["pipeline", "Evil"])


def _custom_pipeline(hostile: Hostile) -> None:
    hostile.edit("model_index.json", custom_pipeline=str(hostile.directory / "pipeline.py"))


def _part_of_another_library(hostile: Hostile) -> None:
    hostile.edit("model_index.json", vae=["subprocess", "Popen"])


def _part_of_an_unknown_class(hostile: Hostile) -> None:
    hostile.edit("model_index.json", transformer=["diffusers", "EvilTransformer"])


def _unknown_class_in_a_config(hostile: Hostile) -> None:
    hostile.edit("transformer/config.json", _class_name="EvilTransformer")


def _remote_code(hostile: Hostile) -> None:
    hostile.edit("text_encoder/config.json", auto_map={"AutoModel": "evil--Evil"})


def _header_bomb(hostile: Hostile) -> None:
    length = 64 * 2**20
    header = b'{"__metadata__":{"a":"' + b"a" * length + b'"}}'
    hostile.write(WEIGHTS, struct.pack("<Q", len(header)) + header)


def _endless_header(hostile: Hostile) -> None:
    hostile.write(WEIGHTS, struct.pack("<Q", 2**63) + b"{}")


def _offsets_outside(hostile: Hostile) -> None:
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    hostile.write(WEIGHTS, struct.pack("<Q", len(header)) + header + b"\0" * 64)


CASES: dict[str, tuple[Callable[[Hostile], None], str]] = {
    "pickle": (_pickle, "diffusion_pytorch_model.bin is a pickle"),
    "pickle-as-safetensors": (_pickle_as_safetensors, "is no safetensors file"),
    "code": (_code, "pipeline.py is code"),
    "class-of-its-own": (_class_of_its_own, "the pipeline 'EvilPipeline' is none of"),
    "class-in-a-module": (_class_in_a_module, "_class_name is not the name of a pipeline"),
    "custom-pipeline": (_custom_pipeline, "custom_pipeline names code"),
    "other-library": (_part_of_another_library, "vae comes from the library subprocess"),
    "unknown-class": (_part_of_an_unknown_class, "no class 'EvilTransformer'"),
    "unknown-class-in-config": (_unknown_class_in_a_config, "no class 'EvilTransformer'"),
    "remote-code": (_remote_code, "auto_map, which names code"),
    "header-bomb": (_header_bomb, "which is too long"),
    "endless-header": (_endless_header, "ends in its header"),
    "offsets-outside": (_offsets_outside, "is no safetensors file"),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_weights_fail_their_job_and_run_nothing(
    control: Control, tiny_flux: Path, weights_dir: Path, tmp_path: Path, name: str
) -> None:
    tamper, said = CASES[name]
    directory = Path(shutil.copytree(tiny_flux, weights_dir / f"hostile-{name}"))
    hostile = Hostile(directory, tmp_path / "code-has-run")
    digest = digest_of(directory)
    tamper(hostile)
    if name not in ("pickle", "code"):
        digest = digest_of(directory)  # the vendor registered what is there
    failed = control.failed(
        control.send(control.job(Model(uri=directory.as_uri(), digest=digest, family="flux")))
    )
    assert (failed.code, failed.retryable) == ("weights_mismatch", False)
    assert said in failed.message
    assert "\n" not in failed.message
    assert str(weights_dir) not in failed.message
    assert failed.usage == Usage()
    assert not hostile.mark.exists()
    shutil.rmtree(directory)


def test_the_mark_is_left_where_code_runs(tmp_path: Path) -> None:
    hostile = Hostile(tmp_path, tmp_path / "code-has-run")
    hostile.pickle("x.bin")
    import pickle

    pickle.loads((tmp_path / "x.bin").read_bytes())
    assert hostile.mark.exists()


def test_another_digest_fails_the_job_free_of_charge(control: Control, tiny_model: Model) -> None:
    wrong = Model(uri=tiny_model.uri, digest="sha256:" + "1" * 64, family="flux")
    failed = control.failed(control.send(control.job(wrong)))
    assert failed.code == "weights_mismatch"
    assert failed.message == f"weights acme/tiny@1 have the digest {tiny_model.digest}"
    assert failed.usage == Usage()


@pytest.fixture(scope="module", autouse=True)
def said_before(worker: WorkerProcess) -> int:
    """How much the worker had logged before: it serves the tests of other files too."""
    return len(worker.log())


def test_the_worker_serves_others_afterwards(
    control: Control, tiny_model: Model, worker: WorkerProcess, said_before: int
) -> None:
    control.finished(control.send(control.job(tiny_model)))
    said = worker.log()[said_before:]
    assert [line for line in said.splitlines() if "Traceback" in line] == []
