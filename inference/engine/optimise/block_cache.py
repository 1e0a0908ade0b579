"""Skips the later blocks of a transformer for rows whose result can be told from earlier steps.

Each row of a batch decides for itself: the blocks after the first run on those rows only that
need them, so that samples at different steps, or of different requests, share the passes that
remain. Blocks are found by diffusers' own registry of transformer blocks, which serves every
family it knows.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine.forward import current_rows
from inference.engine.loaded import Loaded
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.policies import FirstBlock, Policy, Taylor
from inference.engine.sample import Row

if TYPE_CHECKING:
    import torch

STACKS = ("transformer_blocks", "single_transformer_blocks", "blocks")


@dataclass(slots=True)
class _Pass:
    """One forward pass: which rows go on after the first block."""

    rows: list[Row]
    active: list[int]
    before: torch.Tensor


@dataclass(slots=True, eq=False)
class BlockCache:
    """What wraps the blocks of one transformer."""

    policy: Policy
    now: _Pass | None = field(default=None, init=False)
    asked: int = field(default=0, init=False)
    """Rows that came to the first block."""
    ran: Counter[int] = field(default_factory=Counter, init=False)
    """Rows that each block was run for, by its place."""

    def memory(self, row: Row) -> dict[str, Any]:
        """Return what is remembered of a row's branch."""
        found: dict[str, Any] = row.sample.memory.setdefault(("blocks", row.branch), {})
        return found

    def first(self, call: _Call) -> Any:
        """Run the first block on all rows, then let only those through that need the rest."""
        import torch

        rows = current_rows()
        if rows is None:
            self.now = None
            return call.run()
        if self.policy.early:
            return self._early(call, rows)
        self.asked += len(rows)
        self.ran[0] += len(rows)
        before = call.hidden
        output = call.run()
        hidden = call.hidden_of(output)
        active = self._active(rows, hidden - before)
        self.now = _Pass(rows, active, hidden)
        if len(active) == len(rows):
            return output
        index = torch.tensor(active, dtype=torch.long, device=hidden.device)
        return call.pick(output, index)

    def _early(self, call: _Call, rows: list[Row]) -> Any:
        """Let only those rows into the first block that need it."""
        import torch

        active = self._active(rows, call.signal())
        self.asked += len(rows)
        self.ran[0] += len(active)
        self.now = _Pass(rows, active, call.hidden)
        if not active:
            return call.unchanged()
        if len(active) < len(rows):
            index = torch.tensor(active, dtype=torch.long, device=call.hidden.device)
            call.narrow(index, len(rows), handed_on=False)
        return call.run()

    def _active(self, rows: list[Row], signals: torch.Tensor) -> list[int]:
        return [
            index
            for index, row in enumerate(rows)
            if self._needs_blocks(row, signals[index : index + 1])
        ]

    def _needs_blocks(self, row: Row, signal: torch.Tensor) -> bool:
        """Ask the policy once a step: a pass that failed is run again, and nothing has changed."""
        memory, step = self.memory(row), row.sample.step
        if memory.get("asked") != step:
            memory["answer"] = self.policy.compute(row, memory, signal)
            memory["asked"] = step
        return bool(memory["answer"])

    def later(self, call: _Call, number: int, *, last: bool) -> Any:
        """Run block `number` on the rows that are active; after the last, put all together."""
        import torch

        now = self.now
        if now is None:
            return call.run()
        self.ran[number] += len(now.active)
        if not now.active:
            output = call.unchanged()
        else:
            if len(now.active) < len(now.rows):
                index = torch.tensor(now.active, dtype=torch.long, device=call.hidden.device)
                call.narrow(index, len(now.rows))
            output = call.run()
        if not last:
            return output
        self.now = None
        return call.replace(output, self._together(now, call.hidden_of(output)))

    def _together(self, now: _Pass, computed: torch.Tensor) -> torch.Tensor:
        import torch

        results = []
        done = iter(computed.split(1)) if now.active else iter(())
        for index, row in enumerate(now.rows):
            before = now.before[index : index + 1]
            if index in now.active:
                result = next(done)
                self.policy.learn(row, self.memory(row), result - before)
            else:
                result = before + self.policy.guess(row, self.memory(row))
            results.append(result)
        return torch.cat(results)


class _Call:
    """One call of a block, with its tensors by their names."""

    def __init__(
        self, block: Any, forward: Callable[..., Any], meta: Any, args: Any, kwargs: Any
    ) -> None:
        self._block = block
        self._forward = forward
        self._meta = meta
        self._bound = inspect.signature(forward).bind(*args, **kwargs)

    @property
    def hidden(self) -> torch.Tensor:
        """What goes through the blocks."""
        hidden: torch.Tensor = self._bound.arguments[self._meta.hidden_states_argument_name]
        return hidden

    def signal(self) -> torch.Tensor:
        """Return the block's input as modulated by the timestep, or what stands for the latter.

        That is what adaptive norms make of it; a block without them is given a modulation.
        """
        emb = self._bound.arguments["temb"]
        norm = getattr(self._block, "norm1", None)
        if norm is not None and hasattr(norm, "linear"):
            signal: torch.Tensor = norm(self.hidden, emb=emb)[0]
            return signal
        given: torch.Tensor = emb
        return given

    def run(self) -> Any:
        """Call the block."""
        return self._forward(*self._bound.args, **self._bound.kwargs)

    def unchanged(self) -> Any:
        """Return what the block was given, in the shape of its output."""
        text_at = self._meta.return_encoder_hidden_states_index
        if text_at is None:
            return self.hidden
        text = self._bound.arguments[self._meta.encoder_hidden_states_argument_name]
        return (text, self.hidden) if text_at == 0 else (self.hidden, text)

    def hidden_of(self, output: Any) -> torch.Tensor:
        """Return the hidden states of a block's output."""
        hidden = output
        if isinstance(output, tuple):
            hidden = output[self._meta.return_hidden_states_index]
        assert hidden is not None
        result: torch.Tensor = hidden
        return result

    def pick(self, output: Any, index: torch.Tensor) -> Any:
        """Return the output with the rows of `index` only."""
        if isinstance(output, tuple):
            return tuple(None if part is None else part[index] for part in output)
        return output[index]

    def replace(self, output: Any, hidden: torch.Tensor) -> Any:
        """Return the output with other hidden states."""
        if not isinstance(output, tuple):
            return hidden
        parts = list(output)
        parts[self._meta.return_hidden_states_index] = hidden
        return tuple(parts)

    def narrow(self, index: torch.Tensor, rows: int, *, handed_on: bool = True) -> None:
        """Give the block only its rows of what comes whole, such as the timestep's embedding.

        What blocks hand on to each other has been narrowed before, after the first.
        """
        import torch

        narrow = {self._meta.hidden_states_argument_name} if handed_on else set()
        if handed_on and self._meta.return_encoder_hidden_states_index is not None:
            narrow.add(self._meta.encoder_hidden_states_argument_name)
        for name, value in self._bound.arguments.items():
            if name in narrow:
                continue
            if isinstance(value, torch.Tensor) and value.dim() and len(value) == rows:
                self._bound.arguments[name] = value[index]
            elif isinstance(value, tuple):
                # Rotary embeddings: LTX's have rows, those of [tokens, channels] serve all.
                self._bound.arguments[name] = tuple(
                    part[index] if _has_rows(part, rows) else part for part in value
                )


def _has_rows(part: Any, rows: int) -> bool:
    import torch

    return isinstance(part, torch.Tensor) and part.dim() > 2 and len(part) == rows


def _blocks(denoiser: Any) -> list[Any]:
    return [block for name in STACKS for block in getattr(denoiser, name, None) or ()]


def _metadata(block: Any) -> Any:
    from diffusers.hooks._helpers import TransformerBlockRegistry

    return TransformerBlockRegistry.get(type(block))


def no_blocks(loaded: Loaded) -> str | None:
    """Return why the blocks of a pipeline cannot be skipped, None if they can."""
    blocks = _blocks(loaded.denoiser)
    if len(blocks) < 2:
        return "the denoiser is not a stack of transformer blocks"
    try:
        for block in blocks:
            _metadata(block)
    except ValueError as error:
        return str(error)
    return None


def wrap(loaded: Loaded, policy: Policy) -> Undo:
    """Let `policy` decide for the rows of every pass."""
    blocks = _blocks(loaded.denoiser)
    cache = BlockCache(policy)
    before = [vars(block).get("forward") for block in blocks]
    loaded.caches.append(cache)
    for number, block in enumerate(blocks):
        block.forward = _wrapped(cache, block, number, len(blocks))

    def undo() -> None:
        loaded.caches.remove(cache)
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:  # compiled blocks, or another cache
                block.forward = forward

    return undo


def _wrapped(cache: BlockCache, block: Any, number: int, count: int) -> Callable[..., Any]:
    inner, meta = block.forward, _metadata(block)

    def forward(*args: Any, **kwargs: Any) -> Any:
        call = _Call(block, inner, meta, args, kwargs)
        return cache.later(call, number, last=number == count - 1) if number else cache.first(call)

    return forward


def _first_block(loaded: Loaded, threshold: float = 0.1) -> Undo:
    if not 0 < threshold < 1:
        raise ValueError("threshold must be between 0 and 1")
    return wrap(loaded, FirstBlock(threshold))


def _taylor(loaded: Loaded, interval: int = 2, order: int = 1, warm_up: int = 2) -> Undo:
    if interval < 2 or not 0 <= order <= 2 or warm_up < 1:
        raise ValueError("interval must be at least 2, order 0 to 2, warm_up at least 1")
    return wrap(loaded, Taylor(interval, order, warm_up))


FIRST_BLOCK_CACHE = Optimisation(
    name="first_block_cache",
    summary="skip blocks while the first one changes little",
    stage="denoise",
    loss=3.0,
    order=40,
    apply=_first_block,
    lacks=no_blocks,
    options={"threshold": 0.1},
    recommended=False,
    group="cache",
)
TAYLOR = Optimisation(
    name="taylor",
    summary="forecast every other step's blocks",
    stage="denoise",
    loss=4.0,
    order=40,
    apply=_taylor,
    lacks=no_blocks,
    options={"interval": 2, "order": 1, "warm_up": 2},
    recommended=False,
    group="cache",
)
