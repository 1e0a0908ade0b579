"""The caption grammar: many wordings of one scene, with the attributes that each one tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inference.starter.scenes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, Scene

ANY = "any"  # the caption does not say

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "green": ("green", "green", "green", "emerald"),
    "blue": ("blue", "blue", "blue", "navy"),
    "yellow": ("yellow", "yellow", "yellow", "golden"),
    "orange": ("orange",),
    "purple": ("purple", "purple", "purple", "violet"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "circle", "disc", "disk", "ball", "dot"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "triangle", "pyramid"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "white": ("white",),
    "black": ("black", "black", "dark"),
    "gray": ("gray", "gray", "grey"),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "above": ("above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "beneath", "underneath"),
    "left of": ("left of", "left of", "to the left of", "on the left of"),
    "right of": ("right of", "right of", "to the right of", "on the right of"),
}
OPPOSITE = {"above": "below", "left of": "right of"}
OPENINGS = (
    "draw", "paint", "show", "show me", "draw me", "make", "create", "please draw", "generate",
    "a picture of", "an image of", "a drawing of", "a photo of", "i want", "there is", "picture of",
    "image of", "can you draw", "an illustration of",
)  # fmt: skip
ADJECTIVES = (
    "big",
    "small",
    "large",
    "little",
    "solid",
    "bright",
    "simple",
    "flat",
    "nice",
    "plain",
)
ENDINGS = (
    "please",
    "in the picture",
    "with sharp edges",
    "high quality",
    "flat design",
    "minimalist",
)
GROUND_NOUNS = ("background", "background", "background", "canvas", "backdrop", "surface")
GLUE = (
    *("a", "an", "the", "one", "on", "against", "in", "with", "and", "next", "to", "beside"),
    *("is", ",", ".", "of", "it", "two", "shapes", "objects"),
)  # fmt: skip

Labels = dict[str, int]

# What a text encoder must be able to tell: for each head, the names of its classes.
# Slot "a" is the upper or left object; where no relation is told, the first one named.
HEADS: dict[str, tuple[str, ...]] = {
    "background": (*BACKGROUNDS, ANY),
    "count": ("1", "2", ANY),
    "relation": (*RELATIONS, "none", ANY),
    "a_colour": (*COLOURS, ANY),
    "a_shape": (*SHAPES, ANY),
    "b_colour": (*COLOURS, "none", ANY),
    "b_shape": (*SHAPES, "none", ANY),
}


@dataclass(frozen=True)
class Caption:
    """A wording and the class index it tells, per head of HEADS."""

    text: str
    labels: Labels


def words_of(groups: Iterable[tuple[str, ...]]) -> list[str]:
    """Every word of the phrases in `groups`, sorted."""
    return sorted({word for group in groups for phrase in group for word in phrase.split()})


def words() -> list[str]:
    """Every word of the grammar, lower case, sorted: the vocabulary of the T5 tokenizer."""
    groups = [*COLOUR_WORDS.values(), *SHAPE_WORDS.values(), *BACKGROUND_WORDS.values()]
    groups += [*RELATION_WORDS.values(), OPENINGS, ADJECTIVES, ENDINGS, GROUND_NOUNS, GLUE]
    return words_of(groups)


def plain(scene: Scene, *, mirrored: bool = False) -> str:
    """The standard wording, such as "a red circle above a blue square on a white background".

    With `mirrored` the same scene is told from its other object ("... below ...").
    """
    things = [f"{article(colour)} {colour} {shape}" for colour, shape in scene.objects]
    if scene.relation is None:
        return f"{things[0]} on a {scene.background} background"
    relation = OPPOSITE[scene.relation] if mirrored else scene.relation
    first, second = reversed(things) if mirrored else things
    return f"{first} {relation} {second} on a {scene.background} background"


def article(word: str) -> str:
    """The indefinite article of a word."""
    return "an" if word[0] in "aeiou" else "a"


def labels(heads: dict[str, tuple[str, ...]] = HEADS, /, **told: str) -> Labels:
    """Class index per head of what is told, ANY where nothing is."""
    return {head: names.index(told.get(head, ANY)) for head, names in heads.items()}


def empty() -> Caption:
    """The empty prompt: says nothing at all (the unconditional side of guidance)."""
    return Caption("", labels())


class Phrases:
    """Picks random phrases. `loose` is how often a wording departs from the plain one."""

    openings: tuple[str, ...] = OPENINGS
    endings: tuple[str, ...] = ENDINGS

    def __init__(self, rng: np.random.Generator, loose: float = 0.6):
        self.rng, self.loose = rng, loose

    def chance(self, probability: float) -> bool:
        """True with `probability`, scaled by how loose the writer is."""
        return bool(self.rng.random() < probability * self.loose)

    def one(self, options: tuple[str, ...]) -> str:
        """One of `options`; the first (standard) one when not loose."""
        return str(options[int(self.rng.integers(len(options)))]) if self.chance(1) else options[0]

    def thing(self, colour: str, shape: str) -> tuple[str, str, str]:
        """Noun phrase of an object, with the colour and shape that it tells (or ANY)."""
        noun = self.one(SHAPE_WORDS[shape])
        if self.chance(0.03):
            shape, noun = ANY, str(self.rng.choice(["shape", "object", "figure"]))
        parts = [self.one(COLOUR_WORDS[colour])]
        if self.chance(0.04) and shape != ANY:
            colour, parts = ANY, []
        parts.append(noun)
        if self.chance(0.12):
            parts.insert(0, self.one(ADJECTIVES))
        kind = self.rng.random() if self.chance(0.5) else 0
        lead = "" if kind > 0.6 else "the " if kind > 0.5 else article(parts[0]) + " "
        return lead + " ".join(parts), colour, shape

    def nonsense(self) -> str:
        """A made-up word, so that unknown words are known to mean nothing."""
        letters = self.rng.integers(97, 123, int(self.rng.integers(2, 9)))
        return "".join(map(chr, letters))

    def frame(self, text: str, ground: str) -> str:
        """Add the background, an opening, an ending, noise and case to the objects' text."""
        if ground:
            noun = self.one(GROUND_NOUNS)
            where = self.one(("on", "on", "against", "in", "with"))
            lead = "" if self.chance(0.2) else "the " if self.chance(0.1) else "a "
            phrase = f"{where} {lead}{ground} {noun}"
            kind = self.rng.random() if self.chance(0.6) else 0
            if kind > 0.85:
                text = f"{phrase}, {text}"
            elif kind > 0.7:
                text = f"{text}, {ground} {noun}"
            elif kind > 0.6:
                text = f"{ground} {noun}, {text}"
            else:
                text = f"{text} {phrase}"
        if self.chance(0.3):
            text = f"{self.one(self.openings)} {text}"
        if self.chance(0.08):
            text = f"{text}{self.one((',', ''))} {self.one(self.endings)}"
        for _ in range(int(self.rng.integers(1, 4)) if self.chance(0.12) else 0):
            split = text.split(" ")
            split.insert(int(self.rng.choice([0, len(split)])), self.nonsense())
            text = " ".join(split)
        if self.chance(0.15):
            text = text + str(self.rng.choice([".", "!", " "]))
        if self.chance(0.25):
            text = text.upper() if self.rng.random() < 0.1 else text[0].upper() + text[1:]
        return text


class Writer(Phrases):
    """Writes random wordings of scenes."""

    def write(self, scene: Scene) -> Caption:
        """A random wording of `scene`. No word on the background means white."""
        ground = self.one(BACKGROUND_WORDS[scene.background])
        if scene.background == "white" and self.chance(0.5):
            ground = ""
        if len(scene.objects) == 1:
            text, colour, shape = self.thing(*scene.objects[0])
            told = labels(
                background=scene.background,
                count="1",
                relation="none",
                a_colour=colour,
                a_shape=shape,
                b_colour="none",
                b_shape="none",
            )
            return Caption(self.frame(text, ground), told)
        return self._write_two(scene, ground)

    def _write_two(self, scene: Scene, ground: str) -> Caption:
        assert scene.relation is not None
        told = [self.thing(*thing) for thing in scene.objects]
        (a, b), relation = (told[0][0], told[1][0]), scene.relation
        upper, under = RELATION_WORDS[relation], RELATION_WORDS[OPPOSITE[relation]]
        kind = self.rng.random() if self.chance(0.5) else 0.0
        if kind > 0.85:  # the relation is not told
            relation = ANY
            if self.rng.random() < 0.5:
                a, b, told = b, a, told[::-1]
            text = f"{a} {self.one(('and', 'and', 'next to', 'beside', 'with'))} {b}"
        elif kind > 0.7:
            verb = "is " if self.rng.random() < 0.7 else ""
            text = f"{self.one(upper)} {b} {verb}{a}" if self.rng.random() < 0.5 else (
                f"{self.one(under)} {a} {verb}{b}")  # fmt: skip
        elif self.rng.random() < 0.5:
            text = f"{a} {'is ' if kind > 0.6 else ''}{self.one(upper)} {b}"
        else:
            text = f"{b} {'is ' if kind > 0.6 else ''}{self.one(under)} {a}"
        classes = labels(background=scene.background, count="2", relation=relation,
                         a_colour=told[0][1], a_shape=told[0][2],
                         b_colour=told[1][1], b_shape=told[1][2])  # fmt: skip
        return Caption(self.frame(text, ground), classes)
