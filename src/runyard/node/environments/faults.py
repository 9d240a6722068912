"""Why an environment cannot be had."""

from __future__ import annotations

from runyard.core.reasons import Reason


class EnvironmentFault(Exception):
    """The environment cannot be had. ``reason`` says whether that is the user's to mend (``environment_failed``) or may
    pass (``staging_failed``); ``detail`` is a sentence."""

    def __init__(self, detail: str, reason: Reason = Reason.environment_failed) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason
