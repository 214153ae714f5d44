"""The BLOOM and BLOOMZ checkpoints that their makers published, as shapes and names. Pure: a static table.

Source: the ``config.json`` of each on the Hugging Face hub; BLOOM and BLOOMZ of one size have one shape.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.model.config import DEFAULT_LENGTH, ModelConfig

LICENCE = "bigscience-bloom-rail-1.0"
LICENCE_LINK = "https://huggingface.co/spaces/bigscience/license"
VOCABULARY = 250_880


@dataclass(frozen=True)
class Published:
    """One checkpoint. ``chats``: BLOOMZ answers, BLOOM continues text."""

    model_id: str
    size: str
    config: ModelConfig
    chats: bool

    @property
    def link(self) -> str:
        return f"https://huggingface.co/{self.model_id}"


_SHAPES = (
    ("560m", 24, 1024, 16),
    ("1b1", 24, 1536, 16),
    ("1b7", 24, 2048, 16),
    ("3b", 30, 2560, 32),
    ("7b1", 30, 4096, 32),
    ("176B", 70, 14_336, 112),
)


def _published(family: str, size: str, blocks: int, hidden: int, heads: int) -> Published:
    model_id = f"bigscience/{family}" + ("" if size == "176B" else f"-{size}")
    config = ModelConfig(
        hidden=hidden,
        heads=heads,
        blocks=blocks,
        vocab=VOCABULARY,
        epsilon=1e-5,
        residual_post_layernorm=False,
        max_length=DEFAULT_LENGTH,
        bos_id=1,
        eos_ids=(2,),
        model_id=model_id,
        revision="main",
    )
    return Published(model_id, size, config, chats=family == "bloomz")


CATALOGUE = tuple(_published(family, *shape) for family in ("bloomz", "bloom") for shape in _SHAPES)
"""Smallest first within each family, those that chat before the others."""


def known(model_id: str) -> Published | None:
    """The entry of that name, a chosen revision (``name@revision``) aside."""
    name = model_id.partition("@")[0]
    return next((one for one in CATALOGUE if one.model_id == name), None)
