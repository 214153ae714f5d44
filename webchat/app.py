"""The Flask app: the chat page, the APIs and the local door over one ``Reader``."""

from __future__ import annotations

from flask import Flask

from core.secrets import Vault
from webchat import api, chat, control, conversations, keeping, pages, petals, refusals, unplug
from webchat.answers import Answers
from webchat.bulletin import Bulletin
from webchat.door import Door
from webchat.history import History
from webchat.reader import Reader
from webchat.turnstile import Turnstile
from webchat.ways import Ways
from webchat.ways import blueprint as ways_blueprint

MAX_BODY = 2 * 2**20
"""Bytes. The longest prompt a model of 2,048 tokens takes is far below."""


def create_app(
    reader: Reader,
    door: Door,
    history: History | None = None,
    *,
    only_here: bool = False,
    demo: unplug.Demo | None = None,
    ways: Ways | None = None,
    held: Vault | None = None,
) -> Flask:
    """Without a ``history``, conversations are kept in memory. ``only_here``: all donors run on this PC, so
    nothing that is typed leaves it, and the page says so. ``demo`` has donors to unplug; ``held`` are secrets
    that other programs of this PC have from here."""
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY,
        SOCK_SERVER_OPTIONS={"ping_interval": 25, "max_message_size": MAX_BODY},
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    bulletin = Bulletin(reader)
    answers = Answers(reader, History(None) if history is None else history)
    app.extensions["answers"] = answers
    offers: dict[str, object] = {"unplug": demo is not None, "ways": ways.offered() if ways else ()}
    door.guard(app)
    refusals.install(app)
    app.register_blueprint(pages.blueprint(reader, only_here))
    app.register_blueprint(chat.blueprint(reader, bulletin, answers, offers))
    app.register_blueprint(conversations.blueprint(answers))
    app.register_blueprint(control.blueprint(reader, bulletin))
    if demo is not None:
        answers.unplugging = unplug.Unplugging(demo)
        app.register_blueprint(unplug.blueprint(answers.unplugging))
    if ways is not None:
        app.register_blueprint(ways_blueprint(ways))
    if held is not None:
        app.register_blueprint(keeping.blueprint(held))
    turnstile = Turnstile()
    app.register_blueprint(api.blueprint(reader, turnstile))
    app.register_blueprint(petals.blueprint(reader, turnstile))
    return app
