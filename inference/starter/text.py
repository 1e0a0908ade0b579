"""Tiny CLIP and T5 text encoders, taught to parse captions before they are frozen.

The heads that read the parse are thrown away after training; what stays is a pooled embedding
that carries the whole scene linearly, and token embeddings that each know their part of it.
"""

from __future__ import annotations

import itertools
import json
import string
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from inference.starter import captions, scenes
from inference.starter.captions import HEADS, Caption, Writer
from inference.starter.loop import Trained, descend, rng_for, schedule

CLIP_LENGTH = 77
T5_WIDTH = 64
CLIP_WIDTH = 128


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE whose merges are learned from the grammar's words alone (no download)."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(captions.words())] * 3, trainer)
    merges = _merges(tokenizer)
    tokens = [*sorted(alphabet), *(letter + "</w>" for letter in sorted(alphabet))]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=CLIP_LENGTH,
    )


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Learned merges in a fixed order.

    The trainer numbers word-final letters at random, so merges that tie, such as "dis" + "c</w>"
    and "dis" + "k</w>", come in either order; only one can apply in a word, so sort them.
    """
    learned: list[Any] = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in learned]
    runs = itertools.groupby(pairs, lambda p: (p[0], len(p[1]) == 5 and p[1].endswith("</w>")))
    return [pair for (_, final), run in runs for pair in (sorted(run) if final else run)]


def t5_tokenizer(names: list[str]) -> T5Tokenizer:
    """Unigram over the words `names`, small and Capitalised, with characters as fallback."""
    names = sorted({form for name in names for form in (name, name.capitalize(), name.upper())})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [("▁" + name, -3.0) for name in names if len(name) > 1 or name.isalpha()]
    vocabulary += [(letter, -10.0) for letter in string.printable.strip()]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def clip_encoder(tokenizer: CLIPTokenizer, width: int = CLIP_WIDTH) -> CLIPTextModel:
    """A fresh 2-layer CLIP text encoder; its pooled output is [N, width]."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_attention_heads=4,
            num_hidden_layers=2,
            projection_dim=width,
            max_position_embeddings=CLIP_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5_encoder(tokenizer: T5Tokenizer, width: int = T5_WIDTH) -> T5EncoderModel:
    """A fresh 2-layer T5 encoder; its output is [N, tokens, width]."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=width // 4,
            d_ff=2 * width,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


class Heads(nn.Module):
    """One linear classifier per entry of `heads`, such as captions.HEADS."""

    def __init__(self, width: int, heads: dict[str, tuple[str, ...]] = HEADS):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(c)) for name, c in heads.items()})

    def loss(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over the heads for features [N, width]."""
        losses = [
            F.cross_entropy(head(features), labels[name]) for name, head in self.heads.items()
        ]
        return torch.stack(losses).mean()

    def right(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """[N] booleans: every head right."""
        hits = [head(features).argmax(-1) == labels[name] for name, head in self.heads.items()]
        return torch.stack(hits).all(0)


def label_tensors(batch: list[Caption]) -> dict[str, Tensor]:
    """Class indices of a batch, [N] per head."""
    return {
        name: torch.tensor([caption.labels[name] for caption in batch]) for name in batch[0].labels
    }


class TextStage(Trained):
    """Supervised parsing of captions by both encoders at once."""

    name = "text"

    def __init__(
        self, seed: int, batch: int = 128, clip_width: int = CLIP_WIDTH, t5_width: int = T5_WIDTH
    ):
        torch.manual_seed(seed + 1)
        self.seed, self.batch = seed, batch
        self.clip_tokenizer, self.t5_tokenizer = clip_tokenizer(), t5_tokenizer(captions.words())
        self.clip = clip_encoder(self.clip_tokenizer, clip_width)
        self.t5 = t5_encoder(self.t5_tokenizer, t5_width)
        self.heads = (Heads(clip_width), Heads(t5_width))
        self.query = nn.Linear(t5_width, 1)
        self.modules = nn.ModuleList(
            [self.clip, self.t5, nn.ModuleList(self.heads), self.query]
        ).train()
        self.parts = {"modules": self.modules}
        self.optimisers = [
            torch.optim.AdamW(
                self.modules.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01
            )
        ]

    def captions(self, index: int, *, held_out: bool = False, loose: float = 0.75) -> list[Caption]:
        """Wordings of one step; one in thirty is the empty prompt."""
        rng = rng_for(self.seed, self.name, index)
        writer = Writer(rng, loose)
        batch = scenes.sample_scenes(rng, self.batch, held_out=held_out)
        return [captions.empty() if rng.random() < 0.03 else writer.write(scene) for scene in batch]

    def features(self, texts: list[str], length: int | None) -> tuple[Tensor, Tensor]:
        """Pooled CLIP [N, clip width] and attention-pooled T5 [N, t5 width] features.

        T5 runs unmasked with `length` tokens (None: the longest), as the Flux pipeline does.
        """
        ids = self.clip_tokenizer(
            texts, padding="longest", max_length=CLIP_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        pooled = self.clip(ids).pooler_output
        ids = self.t5_tokenizer(
            texts, padding="max_length" if length else "longest",
            max_length=length or 64, truncation=True, return_tensors="pt",
        ).input_ids  # fmt: skip
        tokens = self.t5(ids)[0]
        # Only real tokens are read, so that each must hold its part; the empty text has its </s>.
        score = self.query(tokens).masked_fill((ids == 0).unsqueeze(-1), -1e4)
        return pooled, (score.softmax(1) * tokens).sum(1)

    def step(self, index: int, total: int) -> float:
        """One batch through both encoders; returns the mean parsing loss."""
        self.set_rates(schedule(index, total))
        batch = self.captions(index)
        lengths = (None, None, 32, None, None, 64, None, None, 32, None, None, 128)
        pooled, tokens = self.features([c.text for c in batch], lengths[index % len(lengths)])
        labels = label_tensors(batch)
        loss = self.heads[0].loss(pooled, labels) + self.heads[1].loss(tokens, labels)
        descend(loss, self.modules, self.optimisers)
        return float(loss.detach()) / 2

    @torch.inference_mode()
    def accuracy(
        self, batches: int = 4, loose: float = 0.75, length: int | None = 32
    ) -> tuple[float, float]:
        """Share of held-out wordings parsed wholly right, by CLIP and by T5."""
        totals = torch.zeros(2)
        for index in range(batches):
            batch = self.captions(10**6 + index, held_out=True, loose=loose)
            pooled, tokens = self.features([c.text for c in batch], length)
            labels = label_tensors(batch)
            totals[0] += self.heads[0].right(pooled, labels).float().mean()
            totals[1] += self.heads[1].right(tokens, labels).float().mean()
        clip, t5 = (totals / batches).tolist()
        return clip, t5
