"""`python -m bench`: every figure of the table beside the peers', and the page that tells them."""

import sys

try:
    from bench.command import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"The bench needs {missing.name}, which is not installed here: run `python3 check.py` once and use its "
        "`.venv/bin/python`, or `pip install -e '.[server,postgres,samples,dev]'`."
    )

if __name__ == "__main__":
    sys.exit(main())
