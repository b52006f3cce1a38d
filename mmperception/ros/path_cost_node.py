# SPDX-License-Identifier: Apache-2.0
"""
The node `path_cost`: LiDAR sweeps, tracks and signs in, a cost grid, points and a limit out.

This is the safety path: it makes ground and obstacle points from the sweep itself and goes on,
saying so, when perception is silent. A sweep waits for the tracks of its stamp, live at most
`path_cost.tracks_wait_ms`. Without an odometry frame there is no grid, and the error says so.
"""

from dataclasses import dataclass
import sys
from time import monotonic_ns

from mmperception.cost import CostMapper, sweep_from_frame
from mmperception.ros import diagnostics, qos
from mmperception.ros.assembly import FrameAssembler, LIDAR
from mmperception.ros.cost_outputs import CostOutputs
from mmperception.ros.lifecycle import sentence_of
from mmperception.ros.meter import Meter
from mmperception.ros.process import run
from mmperception.ros.sign_inbox import SignInbox
from mmperception.ros.speed_limit_link import SpeedLimitLink
from mmperception.ros.stamps import stamp_of
from mmperception.ros.track_inbox import TrackInbox
from mmperception.ros.working_node import elapsed_ms, LOG_PERIOD_S, WorkingNode
from mmperception.stamp_watch import Silence, StampWatch
from mmperception.synchronizer import MatchedSet
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2

HEARD = ('lidar/points', 'odom')


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A serialised sweep: when it was measured, and when it came (steady time, node's clock)."""

    stamp_ns: int
    received_ns: int
    data: bytes


class PathCostNode(WorkingNode):
    """See the module."""

    def __init__(self, **options):
        super().__init__('path_cost', **options)
        self.mapper = self.outputs = None

    def configure(self):
        """Announce what will be published, and tell the planner where the grid is."""
        super().configure()
        self.mapper = CostMapper(self.config)
        self.outputs = CostOutputs(self)
        self.outputs.publish_filter_info()
        if not self.config.speed_limit.robot_max_mps:
            self.get_logger().warning(
                'speed_limit.robot_max_mps is not set: no speed limit is published'
            )

    def cleanup(self):
        """Free the grid and the publishers."""
        super().cleanup()
        if self.outputs is not None:
            self.outputs.destroy()
        self.mapper = self.outputs = None

    def activate(self):
        """Subscribe and begin to work."""
        super().activate()
        # That the LiDAR is gone is a promise of the safety path: no slow rhythm puts it off.
        timeout_ns = int(self.config.sync.lidar_timeout_ms * 1e6)
        self.lidar_silence = Silence(timeout_ns, is_exact=True)
        self.meters = {
            topic: Meter(self.config, StampWatch(), may_lack=topic == 'odom') for topic in HEARD
        }
        self.assembler = FrameAssembler(self.config, self.transforms)
        self.tracks, self.signs = TrackInbox(self), SignInbox(self)
        self.limits = SpeedLimitLink(self, self.outputs.speed_limit)
        self.sweeps = self._subscribe(PointCloud2, 'lidar/points', qos.LIDAR_DEPTH, self._receive)
        self.odometry = self._subscribe(Odometry, 'odom', qos.MOTION_DEPTH, self._observe)
        self.worker.start()

    def deactivate(self):
        """Unsubscribe, end the worker, and leave a last grid behind."""
        if self.worker is None:
            return
        self.destroy_subscription(self.sweeps)
        self.destroy_subscription(self.odometry)
        self.tracks.destroy()
        self.signs.destroy()
        self.limits.destroy()
        super().deactivate()
        self._say_last_words()
        self.limits.clear()
        self.mapper.clear()

    def work(self, arrival):
        """Turn one sweep into a grid and the points that went into it."""
        tracks = self._wait_for_tracks(arrival)
        timings_ms = {'wait': elapsed_ms(arrival.received_ns)}
        started_ns = monotonic_ns()
        frame = self._frame(arrival)
        timings_ms['assemble'] = elapsed_ms(started_ns)
        self.limits.move(frame.odom_from_base, frame.stamp_ns, self.assembler.ego.odom_from_base)
        signs = self.signs.before(arrival.stamp_ns)
        path_cost = self.mapper.integrate(sweep_from_frame(frame, tracks, signs))
        timings_ms.update(path_cost.timings_ms)
        integrated_ns = monotonic_ns()
        self.outputs.add(frame.cloud, path_cost)
        timings_ms['publish'] = elapsed_ms(integrated_ns)
        timings_ms['total'] = elapsed_ms(started_ns)
        return timings_ms

    def idle(self, now_ns):
        """Notice that the LiDAR is gone; say again which speed limit holds."""
        self.limits.send()
        silent_ns = self.lidar_silence.begins(self._clock_ns(), now_ns)
        if silent_ns:
            self.get_logger().error(
                f'no sweep for {silent_ns / 1e6:.0f} ms: path_cost follows on_lidar_loss: '
                f'{self.config.path_cost.on_lidar_loss}'
            )
            self._say_last_words()

    def clear_inputs(self):
        """Forget the tracks that wait."""
        self.tracks.clear()
        self.signs.clear()
        self.lidar_silence.start_over()
        for meter in self.meters.values():
            meter.start_over()

    def forget(self):
        """Empty the grid and the motion history."""
        self.assembler.reset()
        self.mapper.clear()
        self.limits.clear()
        self.outputs.forget()

    def report(self):
        """Say what the sweeps, the tracks and the work do."""
        level, message = diagnostics.OK, 'working'
        if self.lidar_silence.is_silent or self.lidar_silence.is_unheard:
            level, message = diagnostics.ERROR, 'no sweeps on lidar/points'
        elif not self.tracks.is_fed():
            level, message = diagnostics.WARN, 'nobody publishes tracks: obstacles have no class'
        values = {
            'without_tracks': self.tracks.num_missing,
            'path_cost_messages': self.outputs.num_grids,
        }
        moment = self.moment()
        inputs = [
            meter.report(f'{self.get_name()}: {topic}', moment)
            for topic, meter in self.meters.items()
        ]
        return [*inputs, self.report_work(message, values, level)]

    def _clock_ns(self):
        return self.get_clock().now().nanoseconds

    def _subscribe(self, message_type, topic, depth, receive):
        return self.create_subscription(
            message_type,
            topic,
            receive,
            qos.sensor(depth, self.config.mode),
            qos_overriding_options=qos.overridable(),
            raw=True,
        )

    def _observe(self, data):
        """Take odometry, which serves where transforms do not say where the robot is."""
        meter = self.meters['odom']
        try:
            verdict = meter.add(stamp_of(data), self.moment())
            if verdict == 'jump':
                self.assembler.reset()
            if verdict in ('keep', 'jump'):
                self.assembler.observe('odom', data)
        except (ValueError, LookupError) as error:
            meter.refuse('bad_message')
            self.get_logger().warning(
                f'odom left out: {sentence_of(error)}', throttle_duration_sec=LOG_PERIOD_S
            )

    def _receive(self, data):
        meter = self.meters['lidar/points']
        try:
            stamp_ns = stamp_of(data)
        except ValueError as error:
            meter.refuse('bad_message')
            self.get_logger().error(f'dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)
            return
        moment = self.moment()
        self.lidar_silence.heard(moment.clock_ns, moment.steady_ns)
        verdict = meter.add(stamp_ns, moment)
        if verdict == 'keep' and meter.is_out_of_order(stamp_ns):
            meter.refuse('late')  # the grid holds what came after it already
        elif verdict in ('keep', 'jump'):
            self.worker.put(Arrival(stamp_ns=stamp_ns, received_ns=moment.steady_ns, data=data))

    def _wait_for_tracks(self, arrival):
        """Return the tracks of a sweep, or None after the wait; say so when it was in vain."""
        wait_ns = int(self.config.path_cost.tracks_wait_ms * 1e6)
        if self.is_replay:
            wait_ns = int(self.config.replay.answer_timeout_s * 1e9) // 2
        must_be_fed = self.is_replay
        tracks = self.tracks.take(arrival.stamp_ns, arrival.received_ns + wait_ns, must_be_fed)
        if tracks is None:
            self.get_logger().warning(
                'no tracks of this sweep: path_cost goes on with geometry alone',
                throttle_duration_sec=LOG_PERIOD_S,
            )
        return tracks

    def _frame(self, arrival):
        """Return the sweep as a Frame without cameras, placed and deskewed as in perception."""
        frame = self.assembler.assemble(
            MatchedSet(
                stamp_ns=arrival.stamp_ns,
                pivot=LIDAR,
                payload=arrival.data,
                members={},
                missing={},
                skew_ns={},
                waited_ns=0,
            )
        )
        if frame.odom_from_base is None:
            raise LookupError(f'no odometry, so no path_cost: {frame.missing["odom"]}')
        return frame

    def _say_last_words(self):
        """Publish what `on_lidar_loss` says, stamped now."""
        now_ns = self._clock_ns()
        try:
            odom_from_base = self.assembler.ego.odom_from_base(now_ns)
        except LookupError:
            odom_from_base = None  # where it was at the last sweep
        grid = self.mapper.last_words(now_ns, odom_from_base)
        if grid is not None:
            self.outputs.publish_grid(grid)


def main():
    """Run the node alone."""
    return run([PathCostNode])


if __name__ == '__main__':
    sys.exit(main())
