# SPDX-License-Identifier: Apache-2.0
"""
The publishers of the path cost node, and when a grid and its points leave.

Live, the grid leaves at `path_cost.rate_hz`, in replay after every sweep. Obstacle and ground
points leave once for each sweep that went into a published grid, also when empty, and never
otherwise: their silence is the planner's watchdog for both.
Source: nav_msgs/OccupancyGrid, nav2_msgs/CostmapFilterInfo, nav2_msgs/SpeedLimit.
"""

from mmperception.ros import messages, qos
from nav2_msgs.msg import CostmapFilterInfo, SpeedLimit
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import PointCloud2

# A grid is due when waiting for the next sweep would exceed the period by more than this.
SLACK = 1.1


class CostOutputs:
    """The publishers of one node, made while it configures."""

    def __init__(self, node):
        self.node, self.config = node, node.config
        self.num_grids = 0
        self._waiting, self._published_ns, self._previous_ns = [], None, None
        make = node.create_lifecycle_publisher
        sensor = qos.sensor(5, self.config.mode)
        self.path_cost = make(OccupancyGrid, 'path_cost', qos.latched(self.config.mode))
        self.obstacle_points = make(PointCloud2, 'obstacle_points', sensor)
        self.ground_points = make(PointCloud2, 'ground_points', sensor)
        self.speed_limit = make(SpeedLimit, 'speed_limit', qos.result())
        # No lifecycle publisher: it speaks once, while the node configures.
        self.filter_info = node.create_publisher(
            CostmapFilterInfo, 'costmap_filter_info', qos.latched()
        )

    def destroy(self):
        """Give the publishers back."""
        made = (self.path_cost, self.obstacle_points, self.ground_points, self.speed_limit)
        for publisher in made:
            self.node.destroy_lifecycle_publisher(publisher)
        self.node.destroy_publisher(self.filter_info)

    def publish_filter_info(self):
        """Tell the planner, once per configure, where the grid is and how to read it."""
        info = CostmapFilterInfo(
            type=0, filter_mask_topic=self.path_cost.topic_name, base=0.0, multiplier=1.0
        )
        info.header.frame_id = self.config.odom_frame
        info.header.stamp = self.node.get_clock().now().to_msg()
        self.filter_info.publish(info)

    def forget(self):
        """Forget the sweeps that wait for a grid: time has jumped."""
        self._waiting, self._published_ns, self._previous_ns = [], None, None

    def add(self, cloud, path_cost):
        """Take one integrated sweep; publish when a grid is due."""
        self._waiting.append((cloud, path_cost.split))
        is_due = self._is_due(cloud.stamp_ns)
        self._previous_ns = cloud.stamp_ns
        if is_due:
            self._published_ns = cloud.stamp_ns
            self.publish_grid(path_cost.grid)
            self._publish_points()

    def publish_grid(self, grid):
        """Publish a grid alone."""
        self.path_cost.publish(messages.msg_from_cost_grid(grid))
        self.num_grids += 1

    def _is_due(self, stamp_ns):
        if self.config.mode == 'replay' or self._published_ns is None:
            return True
        period_ns = stamp_ns - self._previous_ns
        next_ns = stamp_ns + period_ns - self._published_ns
        return next_ns > SLACK * 1e9 / self.config.path_cost.rate_hz

    def _publish_points(self):
        for cloud, split in self._waiting:
            for publisher, chosen in (
                (self.obstacle_points, split.is_obstacle),
                (self.ground_points, split.is_ground),
            ):
                publisher.publish(messages.msg_from_points(cloud, chosen, split.height_m))
        self._waiting = []
