# SPDX-License-Identifier: Apache-2.0
"""
What both nodes share while active: a worker, transforms, a report every second, time jumps.

One broad `except` stands around one item of work: it is dropped, counted by reason and logged
throttled, and the node lives. A subclass gives `work`, `idle`, `forget` and `report`.
"""

from time import monotonic_ns

from diagnostic_msgs.msg import DiagnosticArray
from mmperception.ros import diagnostics, qos
from mmperception.ros.clock_watch import ClockWatch
from mmperception.ros.fault_log import FaultLog
from mmperception.ros.headers import time_from_ns
from mmperception.ros.lifecycle import ManagedNode, sentence_of
from mmperception.ros.meter import Moment
from mmperception.ros.tf2_transforms import make_transforms
from mmperception.ros.worker import Worker
from rclpy.clock import Clock, ClockType

LOG_PERIOD_S = 5.0


class WorkingNode(ManagedNode):
    """A managed node with one thread that works on what its callbacks hand over."""

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.worker = None
        self.diagnostics = self.latency = None

    @property
    def is_replay(self):
        """Tell whether nothing may be lost and waits do not end by time: mode replay."""
        return self.config.mode == 'replay'

    def configure(self):
        """Announce the reports."""
        self.diagnostics = self.create_lifecycle_publisher(
            DiagnosticArray, '/diagnostics', qos.result()
        )
        self.latency = self.create_lifecycle_publisher(
            DiagnosticArray, 'debug/latency', qos.result()
        )

    def cleanup(self):
        """Give the publishers of the reports back."""
        for publisher in (self.diagnostics, self.latency):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self.diagnostics = self.latency = None

    def activate(self):
        """Make the worker (a subclass starts it), the transforms and the report."""
        self.stage_times, self.dropped = diagnostics.StageTimes(), diagnostics.Counts()
        self.newest_ns, self.needs_reset = 0, False
        self.transforms, self.listener = make_transforms(self)
        self.worker = Worker(
            f'{self.get_name()} work',
            work=self._guarded_work,
            idle=self.idle,
            died=self._die,
            keep_all=self.is_replay,
        )
        self.report_timer = self.create_timer(
            1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.clock_watch = ClockWatch(self, self._forget_all)
        self.fault_log = FaultLog(self.get_logger().warning)

    def deactivate(self):
        """Stop what `activate` started."""
        if self.worker is None:
            return
        self.clock_watch.destroy()
        self.destroy_timer(self.report_timer)
        self.listener.destroy()
        self.worker.stop()
        self.worker = None

    def moment(self):
        """Return what time it is by every clock."""
        clock_ns = self.get_clock().now().nanoseconds
        return Moment(clock_ns, monotonic_ns(), self.clock_watch.since_ns)

    def work(self, item):
        """
        Do one item of work, which has a `stamp_ns` and a `received_ns`.

        Returns
        -------
        dict of str to float
            Milliseconds by stage.

        """
        raise NotImplementedError

    def idle(self, now_ns):
        """Do what is due while nothing waits; `now_ns` is steady time."""

    def forget(self):
        """Forget what the worker knows of the past: time has jumped."""

    def clear_inputs(self):
        """Forget what callbacks have stored: time has jumped."""

    def report(self):
        """Return the DiagnosticStatus messages of this second."""
        raise NotImplementedError

    def drop(self, item, reason, sentence):
        """Count an item that leads to nothing, and say so."""
        self.dropped.add(reason)
        self.get_logger().error(f'dropped: {sentence}', throttle_duration_sec=LOG_PERIOD_S)
        self._publish_latency(item, {}, diagnostics.ERROR, f'dropped: {reason}')

    def _guarded_work(self, item):
        self._notice_jump(item.stamp_ns)
        try:
            timings_ms = self.work(item)
        except Exception as error:  # the boundary of one frame
            self.drop(item, reason_of(error), sentence_of(error))
            return
        self.stage_times.add(timings_ms)
        self._publish_latency(item, timings_ms, diagnostics.OK, '')

    def _notice_jump(self, stamp_ns):
        """Forget after a jump of the clock, or of the stamps alone (a bag without /clock)."""
        if self.needs_reset or stamp_ns < self.newest_ns:
            self.needs_reset = False
            self.forget()
        self.newest_ns = stamp_ns

    def _publish_latency(self, item, timings_ms, level, message):
        """Say how long an item took; of a dropped one that nothing will come."""
        values = {
            'stamp_to_publish_ms': (self.get_clock().now().nanoseconds - item.stamp_ns) / 1e6,
            **{f'{stage}_ms': value for stage, value in timings_ms.items()},
        }
        name = f'{self.get_name()}: frame'
        status = diagnostics.status(name, level, message, values)
        self.latency.publish(diagnostics.array(time_from_ns(item.stamp_ns), [status]))

    def _die(self, error):
        self.fail(f'the worker died: {sentence_of(error)}; restart the node')

    def _forget_all(self):
        self.get_logger().warning('time jumped back: everything received is forgotten')
        self.clear_inputs()
        self.worker.clear()
        self.transforms.clear()
        self.needs_reset = True

    def _report(self):
        self.clock_watch.look()
        statuses = [*self.report(), self.clock_watch.report()]
        self.fault_log.say(statuses)
        now = self.get_clock().now().to_msg()
        self.diagnostics.publish(diagnostics.array(now, statuses))

    def report_work(self, message, values, level=diagnostics.OK):
        """Return the status of the work itself: stages, drops, and `values`."""
        name = f'{self.get_name()}: pipeline'
        values = {
            **values,
            'mode': self.config.mode,
            'superseded': self.worker.superseded,
            **self.stage_times.values(),
            **self.dropped.values('dropped'),
        }
        return diagnostics.status(name, level, message, values)


def reason_of(error):
    """Return the word under which a dropped item is counted."""
    if isinstance(error, LookupError):
        return 'no_transform'
    return 'bad_message' if isinstance(error, ValueError) else 'error'


def elapsed_ms(since_ns):
    """Return the milliseconds of steady time since `since_ns`."""
    return (monotonic_ns() - since_ns) / 1e6
