"""A checkpoint as a reader needs it: configuration, tokenizer and what is said of it, no weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from core.model.config import ModelConfig, read_config
from core.model.text import Text
from core.node.licences import stated
from core.paths import bundled_model
from core.routing.ask import ModelCard


@dataclass(frozen=True)
class Model:
    """A checkpoint's folder with what a reader needs of it: no weights."""

    folder: Path
    config: ModelConfig
    text: Text

    @classmethod
    def read(cls, folder: Path) -> Model:
        """Raises ``ModelError`` for a folder that cannot be used."""
        return cls(folder, read_config(folder), Text(folder))

    def card(self) -> ModelCard:
        config, bundled = self.config, self.folder == bundled_model()
        return ModelCard(
            model_id=config.model_id,
            revision=config.revision,
            blocks=config.blocks,
            max_length=config.max_length,
            licence=stated(self.folder) or ("Apache-2.0" if bundled else "see its model card"),
            kind=self.text.kind,
            note=_DEMO_NOTE if bundled else "",
            questions=_questions(self.folder),
        )


_DEMO_NOTE = "This is a tiny demo model. It knows a few questions by heart and makes up the rest."


def _questions(folder: Path) -> tuple[str, ...]:
    """Questions that a folder says its model answers well; a page offers them."""
    try:
        found = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(str(item) for item in found[:8]) if isinstance(found, list) else ()
