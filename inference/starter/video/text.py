"""A tiny UMT5 encoder, taught to parse captions before it is frozen.

Every token learns to carry the whole clip, because a Wan denoiser reads the text by attention
alone: whichever token it looks at tells it everything. The heads are thrown away after training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from inference.starter.captions import Caption
from inference.starter.loop import Trained, descend, rng_for, schedule
from inference.starter.text import Heads, label_tensors, t5_tokenizer
from inference.starter.video import captions, scenes
from inference.starter.video.captions import HEADS, Writer

WIDTH = 64
LENGTH = 32  # text tokens; the pipeline pads with zeros up to max_sequence_length


def build(tokenizer: T5Tokenizer, width: int = WIDTH) -> UMT5EncoderModel:
    """A fresh 3-layer encoder; its output is [N, tokens, width]."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=width // 4,
            d_ff=2 * width,
            num_layers=3,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


class TextStage(Trained):
    """Supervised parsing of captions, from each token alone."""

    name = "text"

    def __init__(self, seed: int, batch: int = 128, width: int = WIDTH):
        torch.manual_seed(seed + 1)
        self.seed, self.batch = seed, batch
        self.tokenizer = t5_tokenizer(captions.words())
        self.encoder, self.heads = build(self.tokenizer, width), Heads(width, HEADS)
        self.modules = nn.ModuleList([self.encoder, self.heads]).train()
        self.parts = {"modules": self.modules}
        self.optimisers = [
            torch.optim.AdamW(
                self.modules.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01
            )
        ]

    def captions(self, index: int, *, held_out: bool = False, loose: float = 0.75) -> list[Caption]:
        """Wordings of one step; one in thirty is the empty prompt."""
        rng = rng_for(self.seed, self.name, index)
        writer = Writer(rng, loose)
        batch = scenes.sample_clips(rng, self.batch, held_out=held_out)
        return [captions.empty() if rng.random() < 0.03 else writer.write(clip) for clip in batch]

    def tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings [N, tokens, width] and mask [N, tokens] of texts, padded to the longest."""
        asked = self.tokenizer(
            texts, padding="longest", max_length=128, truncation=True, return_tensors="pt"
        )
        found: Tensor = self.encoder(asked.input_ids, asked.attention_mask).last_hidden_state
        return found, asked.attention_mask.bool()

    def embed(self, texts: list[str], length: int = LENGTH) -> Tensor:
        """Embeddings [N, length, width] with zeros for padding, as the pipeline makes them."""
        found, mask = self.tokens(texts)
        found = found.masked_fill(~mask[..., None], 0.0)[:, :length]
        return F.pad(found, (0, 0, 0, length - found.shape[1]))

    def step(self, index: int, total: int) -> float:
        """One batch, every real token of it parsed; returns the mean parsing loss."""
        self.set_rates(schedule(index, total))
        batch = self.captions(index)
        found, mask = self.tokens([caption.text for caption in batch])
        which = mask.nonzero()[:, 0]
        told = {name: classes[which] for name, classes in label_tensors(batch).items()}
        loss = self.heads.loss(found[mask], told)
        descend(loss, self.modules, self.optimisers)
        return float(loss.detach())

    @torch.inference_mode()
    def accuracy(self, batches: int = 4, loose: float = 0.75) -> float:
        """Share of tokens of held-out wordings from which everything is parsed right."""
        total = 0.0
        for index in range(batches):
            batch = self.captions(10**6 + index, held_out=True, loose=loose)
            found, mask = self.tokens([caption.text for caption in batch])
            which = mask.nonzero()[:, 0]
            told = {name: classes[which] for name, classes in label_tensors(batch).items()}
            total += float(self.heads.right(found[mask], told).float().mean())
        return total / batches
