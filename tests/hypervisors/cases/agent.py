"""Cases: what the guest's agent does."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage


@case("JobService/SetUserPassword", lambda s: ended(s.client.set_user_password(s.ref, user="root", password="a secret")))
async def set_user_password(s: Stage) -> None:
    """The agent of a running guest sets a password."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_user_password(ref, user="root", password="a secret"))
