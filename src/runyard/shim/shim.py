"""Entry of the shim, the parent and subreaper of one learner's program; started as a script by the node.

``python -I -S -B shim.py --dir D --lock-fd L --listen-fd S --order-fd O``; docs/rooms/shim.md has the contract.
``shim.py --probe`` prints what of isolation.py works here; ``--launcher`` and ``--warm`` are launcher.py, warm_shim.py.
A script is compiled anew at every start, so this file is short and the rest lies beside it, found without running
``runyard/__init__.py`` and without a search path: the two packages are stood in for by empty modules.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def start(arguments: list[str]) -> int:
    """Find the files beside this one, and supervise."""
    module: type[ModuleType] = type(sys)  # pyright: ignore[reportUnknownVariableType] - a module to the checker
    for name, path in (("runyard", []), ("runyard.shim", [__file__.rpartition("/")[0] or "."])):
        sys.modules[name] = package = module(name)
        package.__path__ = path
    # Byte code of these files alone is kept where it may be, for every user: compiling them costs more than the rest.
    os.umask(0o022)
    sys.dont_write_bytecode = False
    if arguments == ["--probe"]:
        from runyard.shim import isolation  # noqa: PLC0415 - only now can it be found

        return isolation.probe()
    way = arguments[0] if arguments else ""
    if way == "--launcher":
        from runyard.shim import launcher as chosen  # noqa: PLC0415 - as above
    elif way == "--warm":
        from runyard.shim import warm_shim as chosen  # noqa: PLC0415 - as above
    else:
        from runyard.shim import supervise as chosen  # noqa: PLC0415 - as above

    sys.dont_write_bytecode = True
    return chosen.main(arguments[1:] if way in ("--launcher", "--warm") else arguments)


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
