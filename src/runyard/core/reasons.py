"""Why a run ended: a closed vocabulary with total maps to fault, retry, bill and sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Fault(StrEnum):
    """Whose doing an end was."""

    none = "none"
    user = "user"
    platform = "platform"


class Reason(StrEnum):
    """How an attempt, and with it perhaps its run, came to its end."""

    finished = "finished"
    canceled = "canceled"
    preempted = "preempted"
    pruned = "pruned"
    nonzero_exit = "nonzero_exit"
    command_not_found = "command_not_found"
    not_executable = "not_executable"
    killed_by_signal = "killed_by_signal"
    out_of_memory = "out_of_memory"
    time_limit = "time_limit"
    code_invalid = "code_invalid"
    data_not_found = "data_not_found"
    data_access_denied = "data_access_denied"
    data_unreachable = "data_unreachable"
    staging_failed = "staging_failed"
    environment_failed = "environment_failed"
    secret_missing = "secret_missing"
    start_from_missing = "start_from_missing"
    dependency_failed = "dependency_failed"
    disk_limit = "disk_limit"
    idle = "idle"
    idle_requeued = "idle_requeued"
    not_ready = "not_ready"
    gpu_taken = "gpu_taken"
    launch_failed = "launch_failed"
    gpu_failed = "gpu_failed"
    shim_lost = "shim_lost"
    node_lost = "node_lost"
    machine_restarted = "machine_restarted"
    results_lost = "results_lost"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from a reason.

    ``retry``: a new attempt may follow (within the platform's budget for its own faults, within ``max_retries`` for
    the user's). ``billed``: the account pays for the slot time; otherwise it is kept as waste. ``sentence`` says what
    happened and what to do; ``{...}`` are filled by :func:`sentence`.
    """

    fault: Fault
    retry: bool
    billed: bool
    sentence: str


RULES: Final[Mapping[Reason, Rule]] = MappingProxyType(
    {
        Reason.finished: Rule(Fault.none, False, True, "The program ended with exit code 0."),
        Reason.canceled: Rule(Fault.none, False, True, "Canceled on request."),
        Reason.preempted: Rule(Fault.none, True, True, "Stopped to make room; it waits again with its checkpoint."),
        Reason.pruned: Rule(Fault.none, False, True, "Stopped by the search that created it."),
        Reason.nonzero_exit: Rule(
            Fault.user, True, True, "The program ended with exit code {exit_code}: see the end of its log."
        ),
        Reason.command_not_found: Rule(
            Fault.user,
            True,
            True,
            "A command was not found (exit code 127): check the spelling in `command`; "
            "the working directory is the model definition.",
        ),
        Reason.not_executable: Rule(
            Fault.user,
            True,
            True,
            "A command could not be executed (exit code 126): check its mode and its first line, "
            "or call it through its interpreter.",
        ),
        Reason.killed_by_signal: Rule(
            Fault.user, True, True, "The program was ended by signal {signal}: see the end of its log."
        ),
        Reason.out_of_memory: Rule(
            Fault.user,
            True,
            True,
            "The program went over its memory limit and was killed by the kernel: ask for more memory or use less.",
        ),
        Reason.time_limit: Rule(
            Fault.user, True, True, "The program ran into its time limit (max_runtime): raise it, or resume."
        ),
        Reason.code_invalid: Rule(
            Fault.user, False, False, "The model definition cannot be unpacked: zip the folder again."
        ),
        Reason.data_not_found: Rule(
            Fault.user, False, False, "The training data are not where the manifest says: see load-data.log."
        ),
        Reason.data_access_denied: Rule(
            Fault.user,
            False,
            False,
            "The object store refused the credentials for the training data: see load-data.log, "
            "and correct the connection.",
        ),
        Reason.data_unreachable: Rule(
            Fault.user,
            False,
            False,
            "The object store of the training data could not be reached: see load-data.log, "
            "and check the connection's end-point.",
        ),
        Reason.staging_failed: Rule(
            Fault.platform, True, False, "The machine could not make code and data ready: see load-data.log."
        ),
        Reason.environment_failed: Rule(
            Fault.user,
            False,
            False,
            "Its environment (the framework, requirements.txt, `python` or the image) cannot be had: "
            "see load-model.log.",
        ),
        Reason.secret_missing: Rule(
            Fault.user,
            False,
            False,
            "A secret that the manifest names is not stored any more: see `runyard secrets list`, "
            "and store it again (`runyard secrets add`).",
        ),
        Reason.start_from_missing: Rule(
            Fault.user,
            False,
            False,
            "The checkpoints that it was to start from (`start_from`) cannot be had: see whether they are still there.",
        ),
        Reason.dependency_failed: Rule(
            Fault.user,
            False,
            False,
            "A run that it waited for (`after`) did not complete, so it never began: see that run.",
        ),
        Reason.disk_limit: Rule(
            Fault.user,
            True,
            True,
            "The program wrote more to its folders than a run may keep on the disk: ask the operator, or write less.",
        ),
        Reason.idle: Rule(
            Fault.user,
            False,
            True,
            "The program did nothing for as long as it may (`idle`), and was stopped: see the end of its log.",
        ),
        Reason.idle_requeued: Rule(
            Fault.none, True, True, "Stopped because it did nothing (`idle`); it waits again with its checkpoint."
        ),
        Reason.not_ready: Rule(
            Fault.none,
            True,
            False,
            "The machine had not kept the code and data of an earlier run; it waits again while they are fetched.",
        ),
        Reason.gpu_taken: Rule(
            Fault.none, True, False, "Its GPU was not free when the program was to start; it waits again."
        ),
        Reason.gpu_failed: Rule(Fault.platform, True, False, "A GPU of the machine failed while the program ran."),
        Reason.launch_failed: Rule(Fault.platform, True, False, "The machine could not start the program."),
        Reason.shim_lost: Rule(
            Fault.platform, True, False, "The process that watches the program died; the program was ended with it."
        ),
        Reason.node_lost: Rule(Fault.platform, True, False, "The machine was not heard of for too long."),
        Reason.machine_restarted: Rule(Fault.platform, True, False, "The machine was restarted while the program ran."),
        Reason.results_lost: Rule(
            Fault.platform,
            False,
            True,
            "The program ended well, and what it left behind was lost before all of it was in the results bucket: "
            "see what is there (`runyard download`), and submit it again.",
        ),
    }
)

SIGNAL_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
     11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS"}
)  # fmt: skip
"""Signal numbers of Linux on x86 and ARM (``man 7 signal``): a name for each that a program commonly dies of."""


def signal_name(number: int) -> str:
    """Name a signal, e.g. ``9 (SIGKILL)``."""
    name = SIGNAL_NAMES.get(number)
    return f"{number} ({name})" if name else str(number)


def sentence(reason: Reason, *, exit_code: int | None = None, signal: int | None = None, detail: str = "") -> str:
    """Say in one or two sentences what happened and what to do about it."""
    text = RULES[reason].sentence.replace("{exit_code}", "unknown" if exit_code is None else str(exit_code))
    text = text.replace("{signal}", "unknown" if signal is None else signal_name(signal))
    return f"{text} {detail}".strip()
