# SPDX-License-Identifier: Apache-2.0
"""
One soak while it runs: faults one after the other, and what was seen of each.

The stream publishes in a thread of its own, another takes samples of memory and threads. A fault
is injected by meddling with the stream, by setting the clock, or by sending a node through its
states.
"""

from pathlib import Path
import threading
from time import monotonic, sleep

from lifecycle_msgs.msg import Transition
from mmperception.ros.child import ChildDied
from mmperception.ros.soak_meddling import Meddler
from mmperception.ros.soak_observer import RESULTS

SAMPLE_S, POLL_S, PROGRESS_S = 1.0, 0.02, 60.0
TRANSITION_TIMEOUT_S = 30.0
# Seconds by which the clock is set.
JUMP_S = {'clock_back': -15.0, 'clock_forward': 15.0}
# How long a result is waited for after a fault, and what its stamp may be ahead of the clock.
RESUME_TIMEOUT_S, AHEAD_NS = 3.8, 500_000_000
# Over how long before a fault it is seen what a result usually takes.
CALM_S = 2.5
# The count of a fault must be in the next report, which comes once a second.
REPORT_S = 1.3
# A result that was under way when the fault began does not show that results go on.
UNDER_WAY_S = 1.0
# Frames that perception answers while a fault lasts (two may have been under way), and how much
# longer a fault lasts for them at most.
FRAMES_SEEN, PATIENCE_S = 4, 3.0
AWAY = {
    'deactivate': (Transition.TRANSITION_DEACTIVATE,),
    'cleanup': (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
}
BACK = {
    'deactivate': (Transition.TRANSITION_ACTIVATE,),
    'cleanup': (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
}


class SoakRun:
    """One soak while it runs: faults in this thread, the stream and the samples in others."""

    def __init__(self, plan, child, link, stream, observer, log):
        self.plan, self.child, self.link = plan, child, link
        self.stream, self.observer, self.log = stream, observer, log
        self.records, self.samples, self.death = [], [], None
        self._begin_s = monotonic()
        self._shift_s = 0.0  # by which the schedule is behind
        self._is_over = threading.Event()

    def play(self, faults, progress):
        """Go through the faults; returns early when a node has died."""
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        self._progress, self._told_s = progress, 0.0
        try:
            for fault in faults:
                if fault.end_s + self._shift_s + CALM_S > self.plan.seconds:
                    break
                self._wait(fault.begin_s + self._shift_s)
                self.records.append(self._inject(fault))
            self._wait(self.plan.seconds)
        except ChildDied as error:
            self.death = f'exit code {error.exit_code}, last error: {error}'
        finally:
            self._is_over.set()
            sampler.join()

    def result(self):
        """Return what was recorded so far."""
        return {
            'seconds': self.plan.seconds,
            'elapsed_s': self._elapsed_s(),
            'records': list(self.records),
            'samples': list(self.samples),
            'death': self.death,
            'totals': dict(sorted(self.observer.totals.items())),
            'messages': dict(self.observer.messages),
            'log': {**self.log, 'stream_stalls': self.stream.num_stalls},
        }

    def _elapsed_s(self):
        return monotonic() - self._begin_s

    def _wait(self, until_s):
        """Wait until a time of the soak; see that the nodes live and tell how it goes."""
        while self._elapsed_s() < until_s:
            self._check()
            if self._elapsed_s() - self._told_s >= PROGRESS_S:
                self._told_s = self._elapsed_s()
                self._progress(self.result())
            sleep(min(POLL_S, max(0.0, until_s - self._elapsed_s())))

    def _check(self):
        self.child.check()
        if self.stream.failure is not None:
            raise self.stream.failure

    def _inject(self, fault):
        """Let one fault happen; return its record."""
        before, began_s = self.observer.values(), monotonic()
        usual_s = self.observer.usual_s(began_s - CALM_S)
        self.observer.begin()
        injected, states = self._do(fault)
        ended_s, from_ns = monotonic(), self.stream.now_ns()
        levels, reports = dict(self.observer.levels), dict(self.observer.reports)
        heard = self.observer.heard(began_s + UNDER_WAY_S, ended_s)
        if fault.kind in JUMP_S:
            heard = dict.fromkeys(RESULTS, 1)  # over at once: nothing can stop meanwhile
        resumed_s = self._wait_for_results(ended_s, from_ns)
        self._wait(ended_s - self._begin_s + REPORT_S)
        self._shift_s = max(self._shift_s, ended_s - self._begin_s - fault.end_s)
        return {
            'fault': fault,
            'began_s': began_s - self._begin_s,
            'ended_s': ended_s - self._begin_s,
            'before': before,
            'after': self.observer.values(),
            'levels': levels,
            'said': dict(self.observer.said),
            'reports': reports,
            'states': states,
            'heard': heard,
            'injected': injected,
            'usual_s': usual_s,
            'resumed_s': resumed_s,
        }

    def _do(self, fault):
        """Return how much was injected, and the states that nodes were in."""
        if fault.kind in JUMP_S:
            self.stream.jump(JUMP_S[fault.kind])
            return 1, {}
        if fault.kind in AWAY:
            return 1, self._send_away(fault)
        if fault.kind == 'clock_silent':
            self.stream.has_clock = False
            self._wait(fault.end_s + self._shift_s)
            self.stream.has_clock = True
            return 1, {}
        meddler = Meddler(fault.kind, fault.targets, fault.seed)
        self.stream.meddle(meddler)
        self._wait(fault.end_s + self._shift_s)
        self._wait_for_frames()
        self.stream.meddle(None)
        return meddler.injected, {}

    def _wait_for_frames(self):
        """Let a fault last until perception has seen something of it: the machine may be busy."""
        until_s = monotonic() + PATIENCE_S
        while len(self.observer.frames) < FRAMES_SEEN and monotonic() < until_s:
            self._check()
            sleep(POLL_S)

    def _send_away(self, fault):
        """Send a node out of its active state and back; return the states it was in."""
        (node,) = fault.targets
        self._request(node, AWAY[fault.kind])
        self.observer.begin()  # a report may have been under way
        states = [self.link.state_of(node)]
        self._wait(fault.end_s + self._shift_s)
        self._request(node, BACK[fault.kind])
        return {node: [*states, self.link.state_of(node)]}

    def _request(self, node, transitions):
        for transition in transitions:
            self._check()
            self.link.change_state(node, transition, TRANSITION_TIMEOUT_S)

    def _wait_for_results(self, ended_s, from_ns):
        """
        Wait for the first results about the time after a fault.

        Returns
        -------
        dict of str to (float, float)
            Seconds from the end of the fault to the stamp of the result, and to its arrival.

        """
        found = {}
        while monotonic() < ended_s + RESUME_TIMEOUT_S and len(found) < len(RESULTS):
            self._check()
            for topic in RESULTS:
                first = self.observer.first_since(topic, ended_s, from_ns, AHEAD_NS)
                if first is not None:
                    found[topic] = (first[1] - from_ns) / 1e9, first[0] - ended_s
            sleep(POLL_S)
        return found

    def _sample(self):
        """Note memory and threads of the nodes every second."""
        while not self._is_over.wait(SAMPLE_S):
            try:
                self.samples.append((round(self._elapsed_s(), 1), *usage(self.child.pid)))
            except (OSError, KeyError):
                return  # it has ended


def usage(pid):
    """Return resident memory (MB) and the number of threads of a process."""
    lines = Path(f'/proc/{pid}/status').read_text(encoding='utf-8').splitlines()
    fields = dict(line.split(':', 1) for line in lines)
    return int(fields['VmRSS'].split()[0]) / 1024, int(fields['Threads'])
