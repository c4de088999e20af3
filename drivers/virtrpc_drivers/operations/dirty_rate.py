"""Operations: how fast a guest changes its memory."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class StartDirtyRateCalculation(Operation, frozen=True):
    """virDomainStartDirtyRateCalc: measure for this many seconds, 1 to 60."""

    seconds: int


AnyDirtyRate = StartDirtyRateCalculation
