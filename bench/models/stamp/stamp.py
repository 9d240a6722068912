"""Says when its first line ran, by the clock that all processes of a machine share."""

# ruff: noqa: E402 - nothing may come before the first look at the clock
import time

AT = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

import json

print(json.dumps({"first_line": AT}))
