"""For how long what nobody waits for is kept back, so that more goes with it: a request costs several times what is in
it, here and at the server."""

from __future__ import annotations

from typing import Final

COMPANY_S: Final = 0.05
"""So long, where others went a moment ago and programs run here whose words may come meanwhile."""
MOMENT_S: Final = 0.2
"""What a moment ago is."""


def always() -> bool:
    """Programs may be running: nobody can tell."""
    return True
