from runyard.client import Client as Client
from runyard.client import Overrides as Overrides
from runyard.client import Run as Run
from runyard.client import RunyardError as RunyardError
from runyard.client import run as run
from runyard.client import train as train
from runyard.client import wait as wait
from runyard.recorder import log as log

__version__: str
