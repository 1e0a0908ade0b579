"""A results file of the quality gate, as the model page reads it; its figures are invented."""

import json
from pathlib import Path

from inference.bench.plot import frontier

_LEVELS = [("exact", 92.0, 0.0, 91.4, 60.2, 12.1), ("fast", 91.2, 0.8, 88.9, 31.0, 29.4)]
_ALONE = [("channels_last", 92.0, 60.0, 0.93, True), ("taylor", 89.1, 44.6, 0.91, False)]


def write_results(folder: Path, digest: str) -> None:
    """Write `quality-cpu.json` and its plot for the weights of `digest`."""
    rows = [
        {
            "variant": f"plain, {steps} steps", "kind": "plain", "judged": judged,
            "ms_each": 10.0 * steps, "lost": 0.0,
        }
        for steps, judged in ((8, 92.0), (6, 91.0), (4, 85.0), (2, 40.0))
    ]  # fmt: skip
    rows += [
        {
            "variant": name, "kind": "level", "judged": judged, "lost": lost, "same_time": other,
            "latency_ms": alone, "items_per_s": rate, "ms_each": 1000 / rate, "recommended": True,
        }
        for name, judged, lost, other, alone, rate in _LEVELS
    ]  # fmt: skip
    rows += [
        {
            "variant": name, "kind": "alone", "judged": judged, "psnr_db": psnr, "ssim": 0.9987,
            "time": time, "ms_each": 80 * time, "allowed": 1.0, "recommended": good,
        }
        for name, judged, psnr, time, good in _ALONE
    ]  # fmt: skip
    rows.append({"variant": "compiled", "kind": "alone", "off": "there is no C++ compiler"})
    model = {"model": "starter-image", "digest": digest, "steps": 8, "together": 16, "rows": rows}
    results = {
        "bench": "quality", "device": "a CPU", "commit": "0123456789ab", "prompts": 512,
        "confidence": 0.95, "models": [model],
    }  # fmt: skip
    (folder / "quality-cpu.json").write_text(json.dumps(results))
    (folder / "quality-cpu-starter-image.svg").write_text(frontier(rows))
