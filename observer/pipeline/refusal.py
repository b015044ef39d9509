"""Why a record does not go on."""

from __future__ import annotations


class RefusedError(Exception):
    """A stage will not let a record pass.

    Args:
        stage: ``validation`` or ``guard``.
        reason: one of the stage's reasons.
        field: the field it is about, where it is about one.
    """

    def __init__(self, stage: str, reason: str, field: str = "") -> None:
        super().__init__(stage, reason, field)
        self.stage = stage
        self.reason = reason
        self.field = field
