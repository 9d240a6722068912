"""One machine's installation: start it, keep it alive, stop it, examine it."""

from runyard.up.doctor import doctor
from runyard.up.down import down
from runyard.up.service import service
from runyard.up.start import up

__all__ = ["doctor", "down", "service", "up"]
