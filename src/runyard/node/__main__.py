"""``python -m runyard.node``."""

import sys

from runyard.node.main import main

sys.exit(main())
