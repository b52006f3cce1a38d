# SPDX-License-Identifier: Apache-2.0
"""
The nodes of a replay, in a process of their own.

Their log goes to a file; warnings and errors also to the terminal. The process ends with its
parent, however that ends: it watches the parent's id (`PARENT_VARIABLE`), and it is stopped on
every way out of the `with` block.
"""

import os
import signal
import subprocess
import sys
import threading

from mmperception.ros.process import PARENT_VARIABLE

STOP_S = 10.0


class ChildDied(OSError):
    """The nodes ended by themselves; the text is the last thing that they said."""

    def __init__(self, sentence, exit_code):
        super().__init__(sentence)
        self.exit_code = exit_code


class NodesProcess:
    """
    `python -m mmperception.ros.perception` with a parameter file, as a context manager.

    Parameters
    ----------
    params_path : path
        Resolved parameters in ROS form.
    log_path : path
    domain_id : int
    show : callable
        Takes one line for the terminal.

    """

    def __init__(self, params_path, log_path, domain_id, show):
        self.show, self.log_path = show, log_path
        self.last_error = ''
        command = [sys.executable, '-m', 'mmperception.ros.perception', '--ros-args']
        self._domain_id = domain_id
        self._command = [*command, '--params-file', str(params_path)]
        self._process = self._reader = None

    def __enter__(self):
        environment = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            'ROS_DOMAIN_ID': str(self._domain_id),
            'RCUTILS_COLORIZED_OUTPUT': '0',
            'PYTHONUNBUFFERED': '1',
        }
        self._process = subprocess.Popen(
            self._command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        """Return the id of the process."""
        return self._process.pid

    def check(self):
        """
        Return when the nodes live.

        Raises
        ------
        ChildDied
            If they have ended.

        """
        exit_code = self._process.poll()
        if exit_code is None:
            return
        self._reader.join(1.0)
        how = f'signal {-exit_code}' if exit_code < 0 else f'exit code {exit_code}'
        raise ChildDied(self.last_error or f'the nodes ended with {how}: see {self.log_path}',
                        exit_code)  # fmt: skip

    def stop(self):
        """End the nodes in order, or at once when they do not answer."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join(1.0)

    def _read(self):
        with open(self.log_path, 'w', encoding='utf-8') as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                self._show(line.rstrip())

    def _show(self, line):
        """Pass warnings and errors on; keep the last error as the reason of a death."""
        is_error = '[ERROR]' in line or '[FATAL]' in line or line.startswith('mmperception')
        if is_error:
            self.last_error = line.rpartition(']: ')[2].removeprefix('mmperception: ')
        if is_error or '[WARN]' in line:
            self.show(line)
