"""What is put on where a profile names nothing is what the planner says, and the command prints."""

from __future__ import annotations

import argparse
import dataclasses
import json

import pytest
import torch

from inference import starter
from inference.engine.optimise import DEFAULTS, REGISTRY, mount, take_off
from inference.engine.plan_command import add_command
from inference.engine.profile import Profile
from tests.inference.engine.drive import load


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> set[str]:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["plan", "--json", *arguments])
    assert parsed.command(parsed) == 0
    return set(json.loads(capsys.readouterr().out)["profile"])


@pytest.mark.parametrize("quality", ["exact", "high", "fast"])
def test_only_candidates_of_the_quality_are_put_on(
    quality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENGINE_COMPILE", raising=False)
    loaded = load(starter.path(), "flux")
    loaded.defaults = starter.defaults()
    mount(loaded, Profile(quality=quality))
    mounted = set(loaded.mounted)
    take_off(loaded)
    assert mounted <= set(DEFAULTS[quality])
    assert "channels_last" in mounted
    assert ("fewer_steps" in mounted) == (quality == "fast")
    assert loaded.notes == []


def test_what_cannot_pay_is_left_off() -> None:
    loaded = load(starter.path(), "flux")
    loaded.device = dataclasses.replace(loaded.device, dtype=torch.bfloat16)
    mount(loaded, Profile(quality="fast"))
    assert not {"bf16_denoiser", "bf16_decoder"} & set(loaded.mounted)
    take_off(loaded)


def test_the_command_weighs_the_engines_own_optimisations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = planned(capsys, "--model", "sdxl", "--device", "cpu", "--quality", "fast")
    assert {"fewer_steps", "bf16_denoiser"} <= found <= set(REGISTRY)
    assert found <= set(DEFAULTS["fast"])
