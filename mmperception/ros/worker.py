# SPDX-License-Identifier: Apache-2.0
"""
The thread that does a node's work, fed by its callbacks.

Callbacks hand items over and return. In mode live only the newest item waits, an older one is
counted as superseded; in mode replay every item waits its turn. Between items the thread calls
`idle` so that waits can end without a timer.
"""

from collections import deque
import threading
from time import monotonic_ns

IDLE_PERIOD_S = 0.01


class Worker:
    """
    One thread, one queue.

    Parameters
    ----------
    name : str
    work : callable
        Takes one item.
    idle : callable
        Called every 10 ms while nothing waits; takes the steady time in ns.
    died : callable
        Takes the exception that ended the thread.
    keep_all : bool
        False: only the newest item waits.

    """

    def __init__(self, name, *, work, idle, died, keep_all):
        self.work, self.idle, self.died, self.keep_all = work, idle, died, keep_all
        self.superseded = 0
        self._items = deque()
        self._is_running = True
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self):
        """Begin to work."""
        self._thread.start()

    def put(self, item):
        """Hand an item over; returns at once."""
        with self._condition:
            if not self.keep_all and self._items:
                self._items.clear()
                self.superseded += 1
            self._items.append(item)
            self._condition.notify()

    def clear(self):
        """Forget the items that wait."""
        with self._condition:
            self._items.clear()

    def stop(self):
        """End the thread after the item it works on."""
        with self._condition:
            self._is_running = False
            self._condition.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _next(self):
        """Return an item, or None after an idle period without one."""
        with self._condition:
            if not self._items and self._is_running:
                self._condition.wait(IDLE_PERIOD_S)
            return self._items.popleft() if self._items else None

    def _run(self):
        try:
            while self._is_running:
                item = self._next()
                if item is None:
                    self.idle(monotonic_ns())
                elif self._is_running:
                    self.work(item)
        except BaseException as error:  # nobody else would ever hear of it
            self.died(error)
