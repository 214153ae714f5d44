"""The secret of the private swarm that this PC is a member of."""

from __future__ import annotations

from core.errors import UserError
from core.secrets import Secret, Vault
from core.swarm.secret import Secret as SwarmSecret


def stored_secret(secrets: Vault) -> SwarmSecret | None:
    """``None`` in an open swarm. Raises ``UserError`` for one that is damaged: without it this PC would
    join nothing, and must not take part in the open."""
    text = secrets.get(Secret.SWARM)
    if text is None:
        return None
    try:
        return SwarmSecret.from_text(text)
    except ValueError:
        raise UserError(
            "the stored secret of this PC's swarm is damaged", "Join again: idlebloom join LINK."
        ) from None
