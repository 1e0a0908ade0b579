"""Many wordings of one clip, with the attributes that each one tells."""

from __future__ import annotations

from inference.starter.captions import (
    ADJECTIVES,
    ANY,
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    ENDINGS,
    GROUND_NOUNS,
    OPENINGS,
    SHAPE_WORDS,
    Caption,
    Phrases,
    article,
    labels,
    words_of,
)
from inference.starter.scenes import BACKGROUNDS, COLOURS, SHAPES
from inference.starter.video.scenes import MOTIONS, Clip

MOTION_WORDS: dict[str, tuple[str, ...]] = {
    "left": (
        *("moving left", "moving left", "moving left", "moving to the left", "going left"),
        *("going to the left", "sliding left", "travelling left", "drifting left", "moves left"),
        *("moves to the left", "that moves left", "is moving left", "flying left"),
        *("moving from right to left", "moving leftwards"),
    ),
    "right": (
        *("moving right", "moving right", "moving right", "moving to the right", "going right"),
        *("going to the right", "sliding right", "travelling right", "drifting right"),
        *("moves right", "moves to the right", "that moves right", "is moving right"),
        *("flying right", "moving from left to right", "moving rightwards"),
    ),
    "up": (
        *("moving up", "moving up", "moving up", "moving upwards", "going up", "rising"),
        *("sliding up", "travelling up", "drifting up", "moves up", "that moves up", "rises"),
        *("is moving up", "flying up", "moving from bottom to top", "moving upward"),
    ),
    "down": (
        *("moving down", "moving down", "moving down", "moving downwards", "going down"),
        *("falling", "sliding down", "travelling down", "drifting down", "moves down", "falls"),
        *("that moves down", "is moving down", "sinking", "moving from top to bottom"),
        *("moving downward",),
    ),
    "still": (
        *("standing still", "standing still", "standing still", "not moving", "at rest"),
        *("staying still", "stands still", "that stands still", "is standing still"),
        *("motionless", "that does not move"),
    ),
}
FILM_OPENINGS = (
    *OPENINGS,
    *("a video of", "a video of", "a clip of", "an animation of", "animate", "a film of"),
    *("video of", "animation of", "show me a video of", "make a video of"),
)
FILM_ENDINGS = (*ENDINGS, "in the video", "smoothly", "slowly", "steady camera", "for two seconds")
GLUE = ("a", "an", "the", "one", "on", "against", "in", "with", "and", "is", "it", ",", ".",
        "shape", "object", "figure")  # fmt: skip

# What the text encoder must be able to tell: for each head, the names of its classes.
HEADS: dict[str, tuple[str, ...]] = {
    "background": (*BACKGROUNDS, ANY),
    "colour": (*COLOURS, ANY),
    "shape": (*SHAPES, ANY),
    "motion": (*MOTIONS, ANY),
}


def words() -> list[str]:
    """Every word of the grammar, lower case, sorted: the vocabulary of the tokenizer."""
    groups = [*COLOUR_WORDS.values(), *SHAPE_WORDS.values(), *BACKGROUND_WORDS.values()]
    groups += [*MOTION_WORDS.values(), FILM_OPENINGS, FILM_ENDINGS, ADJECTIVES, GROUND_NOUNS, GLUE]
    return words_of(groups)


def plain(clip: Clip) -> str:
    """The standard wording, such as "a red circle moving right on a white background"."""
    thing = f"{article(clip.colour)} {clip.colour} {clip.shape}"
    return f"{thing} {MOTION_WORDS[clip.motion][0]} on a {clip.background} background"


def empty() -> Caption:
    """The empty prompt: says nothing at all (the unconditional side of guidance)."""
    return Caption("", labels(HEADS))


class Writer(Phrases):
    """Writes random wordings of clips."""

    openings = FILM_OPENINGS
    endings = FILM_ENDINGS

    def write(self, clip: Clip) -> Caption:
        """A random wording of `clip`. No word on the background means white."""
        ground = self.one(BACKGROUND_WORDS[clip.background])
        if clip.background == "white" and self.chance(0.4):
            ground = ""
        text, colour, shape = self.thing(clip.colour, clip.shape)
        motion = clip.motion
        if self.chance(0.04):
            motion = ANY
        else:
            text = f"{text} {self.one(MOTION_WORDS[motion])}"
        told = labels(HEADS, background=clip.background, colour=colour, shape=shape, motion=motion)
        return Caption(self.frame(text, ground), told)
