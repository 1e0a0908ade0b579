"""Our own client and its command line run the starter model on a real worker."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from mercato import Mercato
from tests.e2e.world import STARTER, World

CLIENT = Path(__file__).parents[2] / "marketplace" / "client"


def test_a_picture_comes_back(market: World, tmp_path: Path) -> None:
    steps = []
    with Mercato(market.key, url=market.market.url) as client:
        given = {"prompt": "a red circle", "num_inference_steps": 4}
        made = client.run(STARTER, given, max_charge="1", on_event=steps.append, timeout=100)
    picture = Image.open(made[0].save(tmp_path))
    assert (picture.format, picture.size) == ("PNG", (made[0].width, made[0].height))
    assert any(event.step == event.steps for event in steps if event.type == "progress")
    assert made.job.charge_nano_usd is not None
    market.assert_charged_once(made.job.id, made.job.charge_nano_usd)


def test_the_command_saves_it(market: World, tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "MERCATO_KEY": market.key,
        "MERCATO_URL": market.market.url,
    }
    command = ["run", STARTER, "prompt=a blue square", "num_inference_steps=4", "-o", "a.png"]
    done = subprocess.run(
        [sys.executable, "-m", "mercato", *command],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "a.png\n"), done.stderr
    assert Image.open(tmp_path / "a.png").format == "PNG"
    assert done.stderr.startswith("Cost: $0.0")
