"""Knows, for each architecture, which parts of a denoiser depend on text and timestep only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.forward import current_rows, only
from inference.engine.lora.mount import applied
from inference.engine.sample import Inputs, Row

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded


LAST = "AdaLayerNormContinuous"
"""The adaptive norm that has its scale before its shift."""


class Parts(ABC):
    """Stands in for parts of one denoiser. Outside of a pass with tables they do as they did.

    `kept` is where a sample's memory holds the tables.
    """

    def __init__(self, denoiser: Any, kept: str) -> None:
        self.denoiser = denoiser
        self._kept = kept
        self._replaced: dict[Any, Callable[..., Any]] = {}
        self._given: Inputs | None = None
        self.mount()

    @classmethod
    def missing(cls, loaded: Loaded) -> str | None:
        """Return what is lacking for it, None if nothing."""
        return None

    @abstractmethod
    def mount(self) -> None:
        """Replace the parts."""

    @abstractmethod
    def stepped(self, rows: list[Row], repeated: list[Row]) -> Inputs:
        """Return what each row takes at each of its steps, [all steps of all rows, ...].

        `repeated` has each row once for each of its steps.
        """

    @abstractmethod
    def constant(self, rows: list[Row]) -> Inputs:
        """Return what each row takes at any step, [rows, ...]."""

    def replace(self, module: Any, forward: Callable[..., Any]) -> None:
        """Let `module` run `forward` from now on."""
        self._replaced[module] = module.forward
        module.forward = forward

    def original(self, module: Any) -> Callable[..., Any]:
        """Return what `module` ran before. It calls no hooks: LoRAs add theirs in each pass."""
        return self._replaced[module]

    def restore(self) -> None:
        """Take everything back."""
        for module in self._replaced:
            del module.forward
        self._replaced.clear()

    def gather(self, name: str, count: int) -> torch.Tensor | None:
        """Return `name` for the `count` rows of the current pass, None where there are no tables.

        A part that is run on other rows than the pass has, as in a block that only some of them
        need, gets None as well.
        """
        if self._given is not None:
            return self._given[name]
        rows = current_rows()
        if rows is None or len(rows) != count or not all(self._table(row) for row in rows):
            return None
        return self._cat(rows, name)

    def gathered(self, rows: list[Row]) -> Inputs:
        """Return all that the tables of `rows` have, by name, [rows, ...]."""
        table = self._table(rows[0])
        return {name: self._cat(rows, name) for name in (*table.stepped, *table.constant)}

    @contextmanager
    def giving(self, given: Inputs) -> Iterator[None]:
        """Take what tables would have from `given` for a while."""
        self._given = given
        try:
            yield
        finally:
            self._given = None

    def _table(self, row: Row) -> Any:
        return row.sample.memory.get(self._kept, {}).get((id(self), row.branch))

    def _cat(self, rows: list[Row], name: str) -> torch.Tensor:
        import torch

        tables = [self._table(row) for row in rows]
        if name in tables[0].constant:
            return torch.cat([table.constant[name] for table in tables])
        steps = [row.sample.step for row in rows]
        return torch.cat(
            [table.stepped[name][s : s + 1] for table, s in zip(tables, steps, strict=True)]
        )

    def remember(self, module: Any) -> None:
        """Let `module` return what it returned before for a sample: it sees only the shape."""
        inner = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            rows = current_rows()
            if rows is None:
                return inner(*args, **kwargs)
            memory, key = rows[0].sample.memory, (self._kept, id(module))
            if key not in memory:
                memory[key] = inner(*args, **kwargs)
            return memory[key]

        self.replace(module, forward)


@contextmanager
def _dressed(rows: list[Row]) -> Iterator[None]:
    """Run modules for `rows`, with their LoRAs."""
    with only(rows), applied(rows):
        yield


class ModulatedParts(Parts):
    """FLUX and SD3: adaptive norms in the blocks and at the end, each with a projection.

    The embedding that goes through the blocks is made wider: it carries the modulation of all of
    them, and each norm takes its columns. Thus whatever picks rows of it, such as a cache, picks
    their modulation. A row of it is 16 kB in the starter model and 2 MB (bf16) in FLUX.1.
    """

    ADAPTIVE: ClassVar = (
        "AdaLayerNormZero",
        "AdaLayerNormZeroSingle",
        LAST,
        "SD35AdaLayerNormZeroX",
    )
    unit: ClassVar = 1.0
    """What the model multiplies its timestep and guidance by."""

    def mount(self) -> None:
        """Replace the norms, the embedding and the text's projection."""
        import torch

        modules = self.denoiser.modules()
        self._norms = [m for m in modules if type(m).__name__ in self.ADAPTIVE]
        self._width = sum(norm.linear.out_features for norm in self._norms)
        self._ones = torch.cat([_ones_of(norm) for norm in self._norms])
        at = 0
        for norm in self._norms:
            self._replace_norm(norm, at)
            at += norm.linear.out_features
        self._replace_ends()

    def _replace_norm(self, norm: Any, at: int) -> None:
        import torch

        inner, size = norm.forward, norm.linear.out_features
        parts = size // norm.linear.in_features
        scale_first = type(norm).__name__ == LAST

        def forward(x: torch.Tensor, emb: torch.Tensor) -> Any:
            if emb.shape[-1] != self._width:
                return inner(x, emb)
            own = emb[:, at : at + size].unsqueeze(1).chunk(parts, dim=2)
            normed = norm.norm(x)
            if scale_first:
                return torch.addcmul(own[1], normed, own[0])
            first = torch.addcmul(own[0], normed, own[1])
            rest = [part.squeeze(1) for part in own[2:]]
            if parts == 9:
                rest = [*rest[:4], torch.addcmul(own[6], normed, own[7]), rest[6]]
            return (first, *rest)

        def named(x: torch.Tensor = None, emb: Any = None, **names: Any) -> Any:  # type: ignore[assignment]
            # Each class of norms has a name of its own for what it is given.
            x = names.get("hidden_states", x)
            return forward(x, names.get("conditioning_embedding", emb))

        self.replace(norm, named)

    def _replace_ends(self) -> None:
        embed, project = self.denoiser.time_text_embed, self.denoiser.context_embedder

        def embedding(timestep: torch.Tensor, *rest: torch.Tensor) -> Any:
            found = self.gather("modulation", timestep.shape[0])
            return self.original(embed)(timestep, *rest) if found is None else found

        def projected(states: torch.Tensor) -> Any:
            found = self.gather("text", states.shape[0])
            return self.original(project)(states) if found is None else found

        self.replace(embed, embedding)
        self.replace(project, projected)
        if type(self.denoiser.pos_embed).__name__ == "FluxPosEmbed":
            self.remember(self.denoiser.pos_embed)

    def stepped(self, rows: list[Row], repeated: list[Row]) -> Inputs:
        """Return "modulation", [all steps, columns of all norms], with 1 added to the scales."""
        import torch

        dtype = self.denoiser.context_embedder.weight.dtype
        kind = rows[0].inputs["timestep"].dtype
        times = [row.sample.timesteps.to(kind) / self.unit for row in rows]
        given = [torch.cat(times).to(dtype) * self.unit if self.unit != 1 else torch.cat(times)]
        if "guidance" in rows[0].inputs:
            scales = torch.cat([row.inputs["guidance"] for row in repeated])
            given.append(scales.to(dtype) * self.unit)
        given.append(torch.cat([row.inputs["pooled_projections"] for row in repeated]).to(dtype))
        with _dressed(repeated):
            embedded = self._norms[0].silu(self.original(self.denoiser.time_text_embed)(*given))
            modulation = torch.cat([norm.linear(embedded) for norm in self._norms], dim=1)
        return {"modulation": modulation.add_(self._ones.to(modulation))}

    def constant(self, rows: list[Row]) -> Inputs:
        """Return "text", the projected states [rows, tokens, channels]."""
        import torch

        project = self.denoiser.context_embedder
        states = torch.cat([row.inputs["encoder_hidden_states"] for row in rows])
        return {"text": self.original(project)(states.to(project.weight.dtype))}


def _ones_of(norm: Any) -> torch.Tensor:
    """Return 1 in the columns of an adaptive norm that are scales, which act as 1 plus scale."""
    import torch

    width = norm.linear.in_features
    ones = torch.zeros(norm.linear.out_features // width, width)
    ones[[0] if type(norm).__name__ == LAST else [i for i in (1, 7) if i < len(ones)]] = 1
    return ones.flatten()


class FluxParts(ModulatedParts):
    """FLUX takes its timestep in 0 to 1."""

    unit: ClassVar = 1000.0


class WanParts(Parts):
    """Wan: one embedder for timestep and text; every block projects keys and values of the text.

    Keys and values take 2 * layers * text tokens * channels numbers a branch: 94 MB (bf16) in
    the model of 1.3B, 419 MB in that of 14B.
    """

    @classmethod
    def missing(cls, loaded: Loaded) -> str | None:
        """A timestep for each token has no table."""
        if loaded.base.config.expand_timesteps:
            return "the model takes a timestep for each token"
        if loaded.denoiser.config.image_dim is not None:
            return "the model takes CLIP's view of a picture"
        return None

    def mount(self) -> None:
        """Replace the embedder, the rotary tables and the projections of the text."""
        embedder = self.denoiser.condition_embedder

        def embedding(timestep: torch.Tensor, *rest: Any, **names: Any) -> Any:
            count = timestep.shape[0]
            found = [self.gather(name, count) for name in ("time", "modulation", "text")]
            if found[0] is None:
                return self.original(embedder)(timestep, *rest, **names)
            return (*found, None)

        self.replace(embedder, embedding)
        self.remember(self.denoiser.rope)
        for number, block in enumerate(self.denoiser.blocks):
            self._replace_projection(block.attn2.to_k, f"key {number}")
            self._replace_projection(block.attn2.to_v, f"value {number}")

    def _replace_projection(self, module: Any, name: str) -> None:
        def projected(states: torch.Tensor) -> Any:
            found = self.gather(name, states.shape[0])
            return self.original(module)(states) if found is None else found

        self.replace(module, projected)

    def stepped(self, rows: list[Row], repeated: list[Row]) -> Inputs:
        """Return "time" [all steps, channels] and "modulation" [all steps, 6 * channels]."""
        import torch

        embedder = self.denoiser.condition_embedder
        times = torch.cat([row.sample.timesteps for row in rows])
        with _dressed(repeated):
            waves = embedder.timesteps_proj(times)
            waves = waves.to(next(embedder.time_embedder.parameters()).dtype)
            time = embedder.time_embedder(waves).to(embedder.time_proj.weight.dtype)
            return {"time": time, "modulation": embedder.time_proj(embedder.act_fn(time))}

    def constant(self, rows: list[Row]) -> Inputs:
        """Return "text" and each block's "key" and "value" of it, [rows, tokens, channels]."""
        import torch

        embed = self.denoiser.condition_embedder.text_embedder
        states = torch.cat([row.inputs["encoder_hidden_states"] for row in rows])
        with _dressed(rows):
            text = embed(states.to(embed.linear_1.weight.dtype))
        found = {"text": text}
        for number, block in enumerate(self.denoiser.blocks):
            found[f"key {number}"] = self.original(block.attn2.to_k)(text)
            found[f"value {number}"] = self.original(block.attn2.to_v)(text)
        return found


PARTS: dict[str, type[Parts]] = {
    "FluxTransformer2DModel": FluxParts,
    "SD3Transformer2DModel": ModulatedParts,
    "WanTransformer3DModel": WanParts,
}
"""What is known, by the class of the denoiser."""
