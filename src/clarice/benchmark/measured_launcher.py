"""Runs a command and writes what it used; executed as a script by a bare Python, never imported.

    python -I -S measured_launcher.py RESULT.json COMMAND ...

Linux counts the memory of a process that starts another one towards the other's peak, and a benchmark holds
far more than the programs it measures. This script holds next to nothing.
"""

import json
import os
import signal
import sys
import time

LOOK_UP_SECONDS = 1.0

result, command = sys.argv[1], sys.argv[2:]
parent = os.getppid()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
started = time.perf_counter()
child = os.fork()
if child == 0:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        os._exit(127)
# A benchmark that is killed must not leave hours of work behind: the command ends with it.
while signal.sigtimedwait({signal.SIGCHLD}, LOOK_UP_SECONDS) is None:
    if os.getppid() != parent:
        os.killpg(0, signal.SIGKILL)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - started
figures = {
    "status": os.waitstatus_to_exitcode(status),
    "seconds": seconds,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "peak_memory_mb": usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024),
}
with open(result, "w", encoding="utf-8") as file:
    json.dump(figures, file)
