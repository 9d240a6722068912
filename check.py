"""Checks the whole project: `python3 check.py`. More words go to pytest, e.g. `python3 check.py -k samples -x`."""

import sys

if sys.version_info < (3, 11):
    sys.exit("Runyard needs Python 3.11 or newer; this is %d.%d. Try `python3.11 check.py`." % sys.version_info[:2])

from tools.checks import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
