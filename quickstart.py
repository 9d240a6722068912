"""Shows Runyard at work: `python3 quickstart.py`. It installs what is needed beside itself and touches nothing else."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Runyard needs Python 3.11 or newer; this is %d.%d. Try `python3.11 quickstart.py`." % sys.version_info[:2]
    )

from tools.tour import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
