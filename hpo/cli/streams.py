"""Standard streams that are closed, or whose output cannot be written."""

from __future__ import annotations

import errno
import os
import sys

from hpo.cli.errors import EXIT_ERROR, print_error

_OUTPUT_LOST = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def open_standard_streams() -> None:
    """Open closed standard streams on the null device, or the next file opened would get their output.

    Raises:
        SystemExit: standard output is closed, so the command's output would be lost.
    """
    closed = [descriptor for descriptor in (0, 1, 2) if not _is_open(descriptor)]
    for descriptor in closed:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    if 2 in closed:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if 1 in closed:
        sys.stdout = os.fdopen(1, "w", closefd=False)
        print_error("standard output is closed: redirect it to a file or to /dev/null", [])
        sys.exit(EXIT_ERROR)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def is_of_output(error: OSError) -> bool:
    """Whether `error` is of standard output, which cannot be written."""
    if error.filename is not None or error.errno not in _OUTPUT_LOST:
        return False
    try:
        os.write(1, b"\n")
    except OSError:
        return True
    return False


def flush_output(code: int) -> int:
    """Write the rest of the output, and return `code`, or 1 if it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        return output_lost(error)
    return code


def output_lost(error: OSError) -> int:
    print_error(f"cannot write the output ({error.strerror}): redirect it elsewhere", [])
    return EXIT_ERROR


def discard_output() -> None:
    """Redirect streams that cannot be written to the null device, so that the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
