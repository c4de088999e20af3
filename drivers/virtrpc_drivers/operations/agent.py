"""Operations: what the guest's agent does."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class SetUserPassword(Operation, frozen=True):
    """virDomainSetUserPassword, through the guest agent."""

    user: str
    password: str
    encrypted: bool = False


AnyAgent = SetUserPassword
