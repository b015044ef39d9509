"""fdatasync, and whether it may be believed.

ext4 stops after an error: it aborts its journal, writes that into its superblock, and then refuses everything. In the
milliseconds between, fdatasync comes back without an error though nothing became durable: the aborted transaction is neither
running nor committing any more, so there is nothing to wait for (Linux, fs/jbd2/journal.c, `jbd2_complete_transaction`;
docs/decisions/0014). To begin a transaction fails from the first moment on. To allocate a byte that the file has already
begins one and changes nothing: when that succeeds, the journal was whole when fdatasync came back.
"""

from __future__ import annotations

import errno
import os

from observer.archive.mounts import mounts

_CANNOT = (errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL, errno.ENOSYS)  # EBADF: glibc, for a file that ext4 cannot allocate in
_ext4: dict[int, bool] = {}  # by device


def sync_data(descriptor: int) -> None:
    """Make durable what was written to ``descriptor``, which is open for writing.

    Raises:
        OSError: it is not durable, or nobody knows; asked again the kernel would say that it is.
    """
    os.fdatasync(descriptor)
    status = os.fstat(descriptor)
    if status.st_size and _is_ext4(status.st_dev):
        try:
            os.posix_fallocate(descriptor, 0, 1)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise


def _is_ext4(device: int) -> bool:
    known = _ext4.get(device)
    if known is None:
        name = f"{os.major(device)}:{os.minor(device)}"
        try:
            known = any(mount.kind == "ext4" for mount in mounts() if mount.device == name)
        except OSError:  # no /proc: it can only be believed
            known = False
        _ext4[device] = known
    return known
