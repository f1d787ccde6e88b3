"""Where ``drain`` writes JSON lines: each whole or not at all, and on the disk before its message is acked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from airflow_provider_cfqueues.cli.formats import to_json, write_all
from airflow_provider_cfqueues.cli.lines import to_plain
from airflow_provider_cfqueues.models import Message

BEGINNING = b'{"id": '
"""How each line begins."""
LONGEST_LINE = 2_000_000
"""More than any message takes: the API carries 128 KB, and JSON writes a byte as six at the most."""


class Sink:
    """
    Where messages are written, one a line. Nothing is buffered.

    :param descriptor: the open file.
    :param name: what it is called; ``stdout`` is not a file of ours.
    :param is_file: it was named, and is one that keeps what is written.
    """

    def __init__(self, descriptor: int, name: str, *, is_file: bool) -> None:
        self.name = name
        self._descriptor = descriptor
        self._is_file = is_file
        self._keeps = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def write(self, message: Message) -> int:
        """
        Write a message; where that fails, no part of its line stays in a file. Return the size of its line.

        :raises OSError: it could not be written.
        """
        end = os.fstat(self._descriptor).st_size
        line = f"{to_json(to_plain(message))}\n".encode()
        try:
            write_all(self._descriptor, line, self.name)
        except OSError:
            if self._is_file:
                with suppress(OSError):  # the next run cuts what is left
                    os.ftruncate(self._descriptor, end)
            raise
        return len(line)

    def sync(self) -> None:
        """
        Return once what was written will not be lost with this process, and in a file not with this machine.

        :raises OSError: what was written since the last time may be lost.
        """
        if not self._keeps:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from None
        if self._is_file and not os.fstat(self._descriptor).st_nlink:
            deleted = (
                "The file was deleted while drain wrote to it, so its lines are lost. Messages that are not acked are "
                "given back. Run drain again"
            )
            raise OSError(errno.ENOENT, deleted, self.name)

    def prepare(self, tell: Callable[[str], None]) -> None:
        """
        Find out what can be found out before a message is leased: whether lines can be added.

        :param tell: gets what a person should know, in a line.
        :raises OSError: they cannot.
        :raises ValueError: the file ends in something that ``drain`` did not write.
        """
        if self._is_file:
            self._lock()
            self._end_last_line(tell)
        write_all(self._descriptor, b"", self.name)
        if self._keeps and self._is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        self.sync()
        if self._is_file:
            self._sync_directory()

    def _is_full(self) -> bool:
        disk = os.fstatvfs(self._descriptor)
        free = disk.f_bavail if os.geteuid() else disk.f_bfree
        return disk.f_blocks > 0 and not free  # some network file systems do not say how large they are

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = "Another drain writes to this file. Wait until it ends, or give another file"
            raise OSError(errno.EBUSY, busy, self.name) from None
        except OSError:  # a file system without locks
            pass

    def _end_last_line(self, tell: Callable[[str], None]) -> None:
        """Cut the half line of a run that was killed while it wrote; end a whole one whose line end is missing."""
        size = os.fstat(self._descriptor).st_size
        if not size:
            return
        with Path(self.name).open("rb") as file:
            file.seek(max(0, size - LONGEST_LINE - 1))
            content = file.read()
        rest = content[content.rfind(b"\n", 0, -1) + 1 :]
        if len(rest) > LONGEST_LINE or rest[: len(BEGINNING)] != BEGINNING[: len(rest)]:
            raise ValueError(f"{self.name}: drain did not write its last line. Give another file")
        if rest.endswith(b"\n"):
            return
        if _is_object(rest):
            write_all(self._descriptor, b"\n", self.name)
            tell(f"{self.name} did not end with a line end: added one")
        else:
            os.ftruncate(self._descriptor, size - len(rest))
            tell(
                f"{self.name} ended in half a line ({len(rest):,} bytes) of a killed run: cut this half line. "
                "Its message was not acked, and is delivered again"
            )

    def _sync_directory(self) -> None:
        with suppress(OSError):  # not every file system can, nor may everybody read the directory
            directory = os.open(Path(self.name).resolve().parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


@contextmanager
def open_sink(path: str, stdout: TextIO, tell: Callable[[str], None]) -> Iterator[Sink]:
    """
    Open what to write to, ready to be written to; a file is appended to.

    :param path: the file; ``-`` is stdout.
    :param tell: gets what a person should know, in a line.
    :raises OSError: it cannot be written to.
    :raises ValueError: the file ends in something that ``drain`` did not write.
    """
    to_stdout = path == "-"
    descriptor = os.dup(stdout.fileno()) if to_stdout else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    is_closed = True
    try:
        is_file = not to_stdout and stat.S_ISREG(os.fstat(descriptor).st_mode)
        sink = Sink(descriptor, "stdout" if to_stdout else path, is_file=is_file)
        sink.prepare(tell)
        yield sink
    except KeyboardInterrupt:
        is_closed = False  # the thread may still write: its descriptor must not become another file's
        raise
    finally:
        if is_closed:
            os.close(descriptor)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
