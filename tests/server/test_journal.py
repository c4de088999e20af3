"""The journal on a real disk: what it has taken is there, a full or a broken disk is told, and only one server has it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.server.test_messages import job as plain_job
from virtrpc_drivers.operations import Define, ManagedSave
from virtrpc_server import journal_file
from virtrpc_server.convergence import Convergence
from virtrpc_server.errors import Refusal
from virtrpc_server.journal import Journal
from virtrpc_server.journal_file import FILE, MIGRATIONS, RESERVE_FILE
from virtrpc_server.records import Job, JobState
from virtrpc_server.store import InUse

OLD = Path(__file__).with_name("journal_records")
"""For each version of the schema, records as that version wrote them."""
TMPFS_BYTES = journal_file.RESERVE_BYTES + (4 << 20)


def job(number: int, **changes: object) -> Job:
    """A job with an id as they are."""
    return replace(plain_job(), id=f"{number:014x}-0123456789ab", **changes)


async def held(directory: Path) -> list[Job]:
    """What a journal holds that nobody has."""
    journal = Journal(directory)
    try:
        return await journal.load()
    finally:
        await journal.close()


async def test_jobs_come_back_as_they_were(tmp_path: Path) -> None:
    """The newest form of each, in order of acceptance; what was forgotten does not."""
    journal = Journal(tmp_path / "made")
    assert await journal.load() == []
    jobs = [job(number, convergence=Convergence(), operation=Define(uuid="u", name="n", xml="<domain>'\"é\\</domain>")) for number in (3, 1, 2)]
    await asyncio.gather(*(journal.add(each) for each in jobs))
    newest = [replace(each, revision=9, state=JobState.RUNNING) for each in jobs]
    await asyncio.gather(*(journal.put(each) for each in newest))
    await journal.add(job(4))
    await journal.forget([job(4).id])
    await journal.close()
    assert await held(tmp_path / "made") == sorted(newest, key=lambda each: each.id)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made" / FILE).stat().st_mode & 0o777 == 0o600


async def test_kill_9_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    """A process that is killed while it writes leaves all that it had been told was written, and a file that is whole."""
    script = (
        "import asyncio, itertools, sys; from pathlib import Path\n"
        "from tests.server.test_journal import Journal, job\n"
        "async def main():\n"
        "    journal = Journal(Path(sys.argv[1])); await journal.load()\n"
        "    for number in itertools.count(1):\n"
        "        await journal.add(job(number)); print(number, flush=True)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(3):
        directory = tmp_path / str(_)
        with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _line in range(50):
                writer.stdout.readline()
            writer.kill()
            told = 50 + len(writer.stdout.readlines())
        numbers = [int(each.id.partition("-")[0], 16) for each in await held(directory)]
        assert numbers[:told] == list(range(1, told + 1))
        assert len(numbers) <= told + 1
        with sqlite3.connect(directory / FILE) as whole:
            assert whole.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        whole.close()


async def test_one_server_has_it(tmp_path: Path) -> None:
    """Another one is told so, and has it once the first is gone."""
    first, second = Journal(tmp_path), Journal(tmp_path)
    await first.load()
    with pytest.raises(InUse, match="--state-dir"):
        await second.load()
    await first.close()
    assert await second.load() == []
    await second.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with little more room than the reserve takes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    return path


async def test_a_full_disk_refuses_new_jobs_and_keeps_old_ones(small_disk: Path) -> None:
    """New jobs are refused with the reason and are not there later; running ones go on being stored; with room again all is as before."""
    journal = Journal(small_disk / "state")
    await journal.load()
    running = [job(number) for number in range(1, 21)]
    for each in running:
        await journal.add(each)
    ballast = fill(small_disk)
    refused = await _first_refused(journal, 1000)
    assert "no space left" in refused.problem.message
    ended = [replace(each, state=JobState.SUCCEEDED, revision=5) for each in running]
    results = await asyncio.gather(*(journal.put(each) for each in ended), journal.add(job(2000)), return_exceptions=True)
    assert [type(each) for each in results] == [type(None)] * 20 + [Refusal]
    with pytest.raises(Refusal, match="JOURNAL_UNAVAILABLE"):
        await journal.add(job(2001))
    ballast.unlink()
    await _taken(journal, job(3000))
    assert (small_disk / "state" / RESERVE_FILE).stat().st_size == journal_file.RESERVE_BYTES
    await journal.close()
    found = await held(small_disk / "state")
    assert found[:20] == ended
    assert not {job(2000).id, job(2001).id} & {each.id for each in found}
    assert found[-1].id == job(3000).id


async def test_it_is_read_on_a_full_disk(small_disk: Path) -> None:
    """A server that begins on one finds its jobs, and can end them."""
    journal = Journal(small_disk / "state")
    await journal.load()
    await journal.add(job(1))
    await journal.close()
    fill(small_disk)
    journal = Journal(small_disk / "state")
    assert await journal.load() == [job(1)]
    await journal.put(job(1, revision=2))
    await journal.close()
    assert await held(small_disk / "state") == [job(1, revision=2)]


async def _first_refused(journal: Journal, number: int) -> Refusal:
    while True:
        try:
            await journal.add(job(number))
        except Refusal as refusal:
            return refusal
        number += 1


async def _taken(journal: Journal, new: Job) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await journal.add(new)
            except Refusal:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("damage", ["text", "torn", "newer", "unknown"])
async def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, damage: str) -> None:
    """What is no journal, is torn, or was written by a newer version: the reason is told, nothing is made anew, and a good copy heals it."""
    journal = Journal(tmp_path)
    await journal.load()
    await asyncio.gather(*(journal.add(job(number)) for number in range(1, 200)))
    await journal.close()
    good = (tmp_path / FILE).read_bytes()
    _damage(tmp_path / FILE, damage)
    bad = (tmp_path / FILE).read_bytes()
    journal = Journal(tmp_path)
    for _ in range(2):
        with pytest.raises(Refusal, match="JOURNAL_UNAVAILABLE"):
            await journal.load()
    assert (tmp_path / FILE).read_bytes() == bad
    (tmp_path / FILE).write_bytes(good)
    assert len(await journal.load()) == 199
    await journal.close()


def _damage(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("this is no database " * 1000)
    elif how == "torn":
        body = bytearray(path.read_bytes())
        body[4096 : len(body) - 4096] = bytes(len(body) - 8192)
        path.write_bytes(body)
    else:
        change = "PRAGMA user_version = 99" if how == "newer" else """UPDATE jobs SET record = replace(record, '"ManagedSave"', '"Teleport"')"""
        with sqlite3.connect(path) as database:
            database.execute(change)
        database.close()


async def test_a_file_that_is_taken_away_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be written to a file that nobody finds any more is refused."""
    monkeypatch.setattr(journal_file, "LOOK_SECONDS", 0.0)
    journal = Journal(tmp_path)
    await journal.load()
    await journal.add(job(1))
    (tmp_path / FILE).rename(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="JOURNAL_UNAVAILABLE"):
        await journal.add(job(2))
    (tmp_path / "elsewhere").rename(tmp_path / FILE)
    await journal.add(job(3))
    await journal.close()


async def test_what_cannot_be_forgotten_stops_nothing(tmp_path: Path) -> None:
    """Where old jobs cannot be dropped, whatever the reason, new ones are written and not refused all the same."""
    journal = Journal(tmp_path)
    await journal.load()
    await journal.add(job(1))
    await journal.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TRIGGER keep BEFORE DELETE ON jobs BEGIN SELECT RAISE(ABORT, 'it is damaged'); END")
    database.close()
    journal = Journal(tmp_path)
    await journal.load()
    await journal.forget([job(1).id])
    await journal.add(job(2))
    assert [each.id for each in await journal.load()] == [job(1).id, job(2).id]
    await journal.close()


def test_old_records_are_read() -> None:
    """A record of each version and operation is read by this one: who changes what a job is made of changes MIGRATIONS too."""
    for version in range(1, len(MIGRATIONS) + 1):
        records = (OLD / f"{version}.jsonl").read_bytes().splitlines()
        decoded = [msgspec.json.decode(record, type=Job) for record in records]
        assert {each.verb for each in decoded} >= {"ManagedSave", "Migrate", "Define", "Backup"}
        assert all(msgspec.json.decode(msgspec.json.encode(each), type=Job) == each for each in decoded)


def test_a_record_holds_no_more_than_it_must() -> None:
    """What has its usual value is left out, and what is stored is what is read."""
    record = msgspec.json.encode(job(1, operation=ManagedSave(uuid="u")))
    assert len(record) < 700
    assert msgspec.json.decode(record, type=Job) == job(1, operation=ManagedSave(uuid="u"))
