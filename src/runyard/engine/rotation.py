"""Giving the installation another key: a new one seals from now on, and all that older ones sealed is sealed again."""

from __future__ import annotations

from typing import Final

from runyard.core.errors import RunyardError
from runyard.engine.intake import connection_context
from runyard.engine.orders import secret_context, vault_context
from runyard.engine.world import World
from runyard.ports.sealed import SealedKind, SealedText

_BATCH: Final = 100


def rotate(world: World) -> int:
    """Make a new key, unless a rotation was broken off, which is finished then; returns how much was sealed again.

    What is sealed meanwhile by requests that began before is found by the next rotation or start: older keys stay in
    the file until nothing needs them. Raises :class:`RunyardError` where something cannot be opened with any key.
    """
    world.vault.renew()
    count = 0
    for kind in SealedKind:
        while found := world.store.sealed_texts(kind, world.vault.mark(), _BATCH):
            changed = sum(_reseal(world, each) for each in found)
            count += changed
            if not changed:
                break
    return count


def _reseal(world: World, each: SealedText) -> bool:
    context = _context(each)
    try:
        plain = world.vault.open(each.sealed, context)
    except ValueError:
        raise RunyardError(
            f"The {each.kind.value} {each.name} of {each.account_id} was sealed with a key that is not in the key "
            "file: put that key back (a line of the file), or remove what cannot be opened, and rotate again.",
            code="invalid_key_file",
        ) from None
    return world.store.reseal(each, world.vault.seal(plain, context))


def _context(each: SealedText) -> str:
    match each.kind:
        case SealedKind.connection:
            return connection_context(each.account_id, each.name)
        case SealedKind.secret:
            return secret_context(each.account_id, each.name)
        case SealedKind.spec:
            return vault_context(each.account_id)
