# SPDX-License-Identifier: Apache-2.0
"""Both nodes over real DDS: what comes out for what goes in, and how they start and stop."""

from pathlib import Path
import re
import subprocess
import sys
import threading
from time import sleep

from autoware_perception_msgs.msg import TrackedObject, TrackedObjects
from diagnostic_msgs.msg import DiagnosticArray
from graph import Graph, save_weights, Sensors
from lifecycle_msgs.msg import Transition
from mmperception.datatypes import PointCloud
from mmperception.ros import messages
from mmperception.ros.diagnostics import values_of
from mmperception.ros.headers import ns_from_time
from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
from nav2_msgs.msg import CostmapFilterInfo
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
import pytest
from sensor_msgs.msg import Image, NavSatFix, PointCloud2
from std_msgs.msg import Header
from tiny_drive import BEGIN_NS, CAMERA, PERIOD_NS
from vision_msgs.msg import (
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import MarkerArray

IMAGE_NS = BEGIN_NS + 10_000_000


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    return str(save_weights(tmp_path_factory.mktemp('weights')))


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def stamps(heard):
    return [ns_from_time(message.header.stamp) for message in heard]


def level_of(graph, name):
    """Return (message, values) of the last status of this name."""
    found = [s for m in graph.heard['/diagnostics'] for s in m.status if s.name == name]
    return (found[-1].message, values_of(found[-1])) if found else ('', {})


def wait_for_words(graph, capfd, words):
    """Return whether the nodes' logs come to say these words."""
    said = []
    return graph.wait(lambda: said.append(capfd.readouterr().err) or words in ''.join(said))


def test_a_sweep_with_its_image_becomes_empty_or_full_arrays_at_the_stamps_of_its_sensors(
    graph, weights, rng
):
    node = graph.make(PerceptionNode, weights=weights, mode='replay')
    for topic, kind in (('detections', Detection3DArray), ('tracks', TrackedObjects),
                        ('signs', Detection3DArray), ('signs_2d', Detection2DArray)):  # fmt: skip
        graph.listen(topic, kind)
    graph.listen('label_info', LabelInfo, is_latched=True)
    graph.listen('overlay', Image)
    graph.listen('markers', MarkerArray)
    assert node.start()
    assert graph.wait(node.outputs.overlays['camera'].get_subscription_count)
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.images, sensors.fixes, sensors.tf, sensors.tf_static)
    sensors.mount()
    sensors.move()
    sensors.play(1, rng)
    assert graph.wait(lambda: graph.heard['signs_2d'] and graph.heard['detections'])
    (detections,), (tracks,) = graph.heard['detections'], graph.heard['tracks']
    assert (detections.header.frame_id, tracks.header.frame_id) == ('base_link', 'odom')
    for topic in ('detections', 'tracks', 'signs'):
        assert stamps(graph.heard[topic]) == [BEGIN_NS], topic
    assert stamps(graph.heard['signs_2d']) == [IMAGE_NS]
    assert graph.heard['signs_2d'][0].header.frame_id == 'camera_optical'
    assert graph.wait(lambda: graph.heard['overlay'] and graph.heard['markers'])
    overlay = graph.heard['overlay'][0]
    assert (overlay.width, overlay.height) == (CAMERA.width, CAMERA.height)
    assert stamps([overlay]) == [IMAGE_NS]
    names = [c.class_name for c in graph.heard['label_info'][0].class_map]
    assert names[:3] == ['vehicle', 'pedestrian', 'cyclist']
    assert len(names) == 3 + 43 + 1 and 'speed_limit_30' in names and names[-1] == 'sign'


def test_a_drive_that_starts_over_is_processed_again_from_the_beginning(graph, weights, rng):
    settings = {'weights': weights, 'mode': 'replay', 'use_sim_time': True}
    node = graph.make(PerceptionNode, **settings)
    graph.listen('detections', Detection3DArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.images, sensors.clock, sensors.tf, sensors.tf_static)
    sensors.mount()
    for number in range(1, 3):
        sensors.tell_time(BEGIN_NS)
        assert graph.wait(lambda: node.get_clock().now().nanoseconds == BEGIN_NS)
        sensors.move(2)
        sensors.play(2, rng)
        assert graph.wait(lambda wanted=2 * number: len(graph.heard['detections']) == wanted)
        sensors.tell_time(BEGIN_NS + PERIOD_NS)
        assert graph.wait(lambda: node.get_clock().now().nanoseconds > BEGIN_NS)
    assert stamps(graph.heard['detections']) == [BEGIN_NS, BEGIN_NS + PERIOD_NS] * 2


def test_without_transforms_a_frame_is_dropped_counted_and_named_and_the_node_lives(
    graph, weights, rng
):
    node = graph.make(PerceptionNode, weights=weights, mode='replay')
    graph.listen('/diagnostics', DiagnosticArray)
    graph.listen('debug/latency', DiagnosticArray)
    graph.listen('detections', Detection3DArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps)
    sensors.play(1, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: graph.heard['debug/latency'])
    assert graph.heard['debug/latency'][0].status[0].message == 'dropped: no_transform'
    assert graph.wait(
        lambda: level_of(graph, 'perception: pipeline')[1].get('dropped.no_transform') == 1
    )
    assert not graph.heard['detections']
    assert node.state == 'active'


def test_a_sensor_whose_clock_is_an_hour_ahead_is_named_with_how_far(graph, weights, rng, capfd):
    node = graph.make(PerceptionNode, weights=weights, mode='live', use_sim_time=True)
    graph.listen('/diagnostics', DiagnosticArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.clock)
    sensors.tell_time(BEGIN_NS - 3_600_000_000_000)
    assert graph.wait(lambda: node.get_clock().now().nanoseconds > 0)
    sensors.sweep(0, rng)
    name = 'perception: lidar/points'
    assert graph.wait(lambda: 'fault.future.count' in level_of(graph, name)[1])
    message, values = level_of(graph, name)
    assert message.startswith('stamped 3600000 ms in the future: set the clocks')
    assert (values['fault.future.count'], values['fault.future.max_ms']) == (1, 3_600_000)
    assert wait_for_words(graph, capfd, 'lidar/points: stamped 3600000 ms in the future')


def test_a_fix_without_a_stamp_is_left_out_and_counted(graph, weights, capfd):
    node = graph.make(PerceptionNode, weights=weights, mode='replay')
    graph.listen('/diagnostics', DiagnosticArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.fixes)
    sensors.fixes.publish(NavSatFix(latitude=49.0, longitude=8.4))
    name = 'perception: gps/fix'
    assert graph.wait(lambda: level_of(graph, name)[1].get('dropped.zero_stamp') == 1)
    assert wait_for_words(graph, capfd, 'gps/fix: without a stamp, left out')
    assert node.assembler.ego.fix(BEGIN_NS) is None


def test_a_sensor_that_falls_silent_and_comes_back_is_named_both_times(graph, weights, rng, capfd):
    node = graph.make(PerceptionNode, weights=weights, sync__silent_after_ms=300.0)
    graph.listen('/diagnostics', DiagnosticArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.fixes)

    def send():
        now = graph.peer.get_clock().now().to_msg()
        sensors.fixes.publish(NavSatFix(header=Header(stamp=now), latitude=49.0, longitude=8.4))
        sleep(0.02)

    for _ in range(20):
        send()
    name = 'perception: gps/fix'
    assert graph.wait(lambda: level_of(graph, name)[0].startswith('silent for '))
    assert level_of(graph, name)[1]['fault.silent.count'] == 1
    assert wait_for_words(graph, capfd, 'gps/fix: silent for ')
    send()
    assert graph.wait(lambda: level_of(graph, name)[1].get('fault.back.count') == 1)
    assert level_of(graph, name)[1]['fault.back.max_ms'] > 300.0
    assert wait_for_words(graph, capfd, 'gps/fix: back after ')


def test_images_that_are_always_late_by_their_stamps_are_named_with_the_offset_that_mends_it(
    graph, weights, rng, capfd
):
    node = graph.make(PerceptionNode, weights=weights, mode='replay')
    graph.listen('/diagnostics', DiagnosticArray)
    assert node.start()
    sensors = Sensors(graph)
    sensors.wait_for(sensors.sweeps, sensors.images)
    sensors.mount()
    points = rng.uniform((5, -5, -1), (9, 5, 0), (10, 3)).astype(np.float32)
    for number in range(40):
        stamp_ns = BEGIN_NS + number * PERIOD_NS
        cloud = PointCloud(stamp_ns=stamp_ns, frame_id='lidar', points=points)
        sensors.sweeps.publish(messages.msg_from_cloud(cloud))
        header = messages.header_from(stamp_ns + 40_000_000, 'camera_optical')
        sensors.images.publish(Image(header=header))
        sleep(0.02)
    name = 'perception: camera/image_raw'
    assert graph.wait(lambda: 'suggested' in level_of(graph, name)[1])
    values = level_of(graph, name)[1]
    assert values['suggested'] == 'cameras.camera.offset_ms: -40.0'
    assert values['fault.constant_skew.count'] == 1
    assert wait_for_words(graph, capfd, 'cameras.camera.offset_ms: -40.0 mends it')


def test_a_node_goes_round_its_states_and_frees_its_subscriptions(graph, weights):
    node = graph.make(PerceptionNode, weights=weights)
    name = 'perception'
    assert graph.request(name, 'configure')
    assert node.state == 'inactive'
    assert graph.peer.count_subscribers('lidar/points') == 0
    for _ in range(2):
        assert graph.request(name, 'activate')
        assert graph.wait(lambda: graph.peer.count_subscribers('lidar/points') == 1)
        assert graph.request(name, 'deactivate')
        assert graph.wait(lambda: graph.peer.count_subscribers('lidar/points') == 0)
    assert graph.request(name, 'cleanup')
    assert node.state == 'unconfigured'
    assert node.perceiver is None
    assert graph.wait(lambda: graph.peer.count_publishers('detections') == 0)
    assert graph.request(name, 'shutdown')
    assert node.state == 'finalized'


def resident_mb():
    (size,) = re.findall(r'VmRSS:\s+(\d+) kB', Path('/proc/self/status').read_text())
    return int(size) / 1024


@pytest.mark.parametrize('node_type', [PerceptionNode, PathCostNode])
def test_going_round_the_states_again_and_again_leaves_nothing_behind(graph, weights, node_type):
    node = graph.make(node_type, weights=weights)
    sizes = []
    for _ in range(25):
        assert node.start()
        node.stop()
        assert node.state == 'unconfigured'
        sizes.append((resident_mb(), threading.active_count()))
    (early_mb, early_threads), (late_mb, late_threads) = sizes[9], sizes[-1]
    assert late_threads == early_threads
    assert late_mb < 1.02 * early_mb


@pytest.mark.parametrize('node_type', [PerceptionNode, PathCostNode])
def test_an_impossible_transition_is_answered_no_and_the_node_lives(graph, weights, node_type):
    node = graph.make(node_type, weights=weights)
    name = node.get_name()
    assert not graph.request(name, 'activate')
    assert not graph.request(name, 'no_such_transition')
    assert node.state == 'unconfigured'
    assert graph.request(name, 'configure')
    assert graph.request(name, 'activate')
    assert not graph.request(name, 'activate')
    assert node.state == 'active'


def test_a_manager_on_a_node_that_started_by_itself_is_answered_no_with_what_to_change(
    graph, weights, capfd
):
    node = graph.make(PerceptionNode, weights=weights)
    assert node.start()
    assert not graph.request('perception', number=Transition.TRANSITION_CONFIGURE)
    assert node.state == 'active'
    sentence = 'configure is not possible in state active: set autostart to false'
    assert sentence in capfd.readouterr().err


def test_unreadable_weights_fail_the_transition_and_the_node_can_be_asked_again(graph, tmp_path):
    path = tmp_path / 'broken.safetensors'
    path.write_bytes(b'\x10\0\0\0\0\0\0\0{')
    node = graph.make(PerceptionNode, weights=str(path))
    for _ in range(2):
        assert not graph.request('perception', 'configure')
        assert node.state == 'unconfigured'


def test_a_worker_that_dies_takes_its_node_down_with_a_message(graph, weights):
    node = graph.make(PerceptionNode, weights=weights)
    assert node.start()
    node.idle = None
    node.worker.idle = None
    assert graph.wait(node.failed.is_set)
    assert 'worker died' in node.failure


class PathCost:
    """A path cost node that hears the tiny drive, and what it says."""

    def __init__(self, graph, **settings):
        self.graph = graph
        self.node = graph.make(PathCostNode, **settings)
        graph.listen('path_cost', OccupancyGrid, is_latched=True)
        is_reliable = settings.get('mode') == 'replay'
        graph.listen('obstacle_points', PointCloud2, is_reliable=is_reliable)
        graph.listen('ground_points', PointCloud2, is_reliable=is_reliable)
        graph.listen('/diagnostics', DiagnosticArray)
        assert self.node.start()
        self.sensors = Sensors(graph)
        self.sensors.wait_for(self.sensors.sweeps, self.sensors.tf, self.sensors.tf_static)
        self.sensors.mount()


def test_without_perception_every_sweep_still_makes_a_grid_and_its_points_once(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    path_cost.sensors.move(3)
    path_cost.sensors.play(3, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: len(graph.heard['ground_points']) == 3)
    sent = [BEGIN_NS + n * PERIOD_NS for n in range(3)]
    for topic in ('path_cost', 'obstacle_points', 'ground_points'):
        assert stamps(graph.heard[topic]) == sent, topic
    grid, points = graph.heard['path_cost'][0], graph.heard['obstacle_points'][0]
    assert (grid.header.frame_id, points.header.frame_id) == ('odom', 'lidar')
    assert [field.name for field in points.fields] == ['x', 'y', 'z', 'intensity', 'height']
    assert (grid.info.width, grid.info.height) == (600, 600)
    cells = messages.cost_grid_from_msg(grid)
    # The box stands 9 to 13 m ahead of the LiDAR and 2 to 3.8 m to the left.
    column, row = ((np.array((11.0, 2.9)) - cells.origin_xy_m) / cells.resolution_m).astype(int)
    around = slice(row - 9, row + 9), slice(column - 20, column + 20)
    assert (cells.data[around] == 100).any()


def test_a_sweep_that_comes_twice_or_out_of_order_makes_no_grid_and_costs_none(graph, rng):
    path_cost, forgotten = PathCost(graph, mode='replay'), []
    path_cost.node.forget = lambda: forgotten.append('the grid')
    path_cost.sensors.move(4)
    for number in (0, 1, 3, 2, 3):
        path_cost.sensors.sweep(number, rng)
    assert graph.wait(lambda: len(graph.heard['ground_points']) == 3)
    name = 'path_cost: lidar/points'
    assert graph.wait(lambda: level_of(graph, name)[1].get('dropped.duplicate') == 1)
    values = level_of(graph, name)[1]
    assert (values['dropped.late'], values['fault.regressing.max_ms']) == (1, 100.0)
    assert values['received'] == 5
    assert stamps(graph.heard['ground_points']) == [BEGIN_NS + n * PERIOD_NS for n in (0, 1, 3)]
    assert not forgotten


def test_a_sweep_waits_for_the_tracks_of_its_stamp(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    tracks = graph.peer.create_publisher(TrackedObjects, 'tracks', 10)
    assert graph.wait(lambda: tracks.get_subscription_count() == 1)
    assert graph.wait(path_cost.node.tracks.is_fed)
    path_cost.sensors.move()
    path_cost.sensors.play(1, rng, kinds=('PointCloud',))
    assert not graph.wait(lambda: graph.heard['path_cost'], timeout_s=0.5)
    tracks.publish(TrackedObjects(header=messages.header_from(BEGIN_NS, 'odom')))
    assert graph.wait(lambda: graph.heard['path_cost'])


def test_a_no_entry_sign_closes_the_way_for_later_sweeps_and_broken_ones_close_nothing(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    signs = graph.peer.create_publisher(Detection3DArray, 'signs', 10)
    assert graph.wait(lambda: signs.get_subscription_count() == 2)  # the grid's, the limit's
    path_cost.sensors.move(2)
    assert graph.wait(lambda: path_cost.node.assembler.ego.motion(BEGIN_NS + PERIOD_NS))
    for frame, x in (('lidar', 4.0), ('base_link', float('nan')), ('base_link', 6.0)):
        signs.publish(sign_message('no_entry', frame, (x, -1.0, 2.0)))
    assert graph.wait(lambda: path_cost.node.signs.before(BEGIN_NS + 1))
    path_cost.sensors.play(2, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: len(graph.heard['path_cost']) == 2)
    first, second = (messages.cost_grid_from_msg(m).data for m in graph.heard['path_cost'])
    assert (first == 90).sum() == 0 and (second == 90).sum() > 100
    assert [len(path_cost.node.signs.before(at)) for at in (BEGIN_NS, BEGIN_NS + 1)] == [0, 1]


def test_a_sign_that_is_seen_again_before_a_sweep_is_worked_on_still_closes_its_way(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    signs = graph.peer.create_publisher(Detection3DArray, 'signs', 10)
    assert graph.wait(lambda: signs.get_subscription_count() == 2)  # the grid's, the limit's
    path_cost.sensors.move(2)
    last_ns = BEGIN_NS + PERIOD_NS
    assert graph.wait(lambda: path_cost.node.assembler.ego.motion(last_ns))
    for stamp_ns in (BEGIN_NS, last_ns):
        signs.publish(sign_message('no_entry', 'base_link', (6.0, -1.0, 2.0), stamp_ns))
    assert graph.wait(lambda: path_cost.node.signs.before(last_ns + 1))
    path_cost.sensors.play(2, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: len(graph.heard['path_cost']) == 2)
    first, second = (messages.cost_grid_from_msg(m).data for m in graph.heard['path_cost'])
    assert (first == 90).sum() == 0 and (second == 90).sum() > 100


def sign_message(name, frame, place, stamp_ns=BEGIN_NS):
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = name
    detection = Detection3D(results=[hypothesis])
    at = detection.bbox.center.position
    at.x, at.y, at.z = place
    return Detection3DArray(
        header=messages.header_from(stamp_ns, frame), detections=[detection, Detection3D()]
    )


def test_broken_tracks_cost_the_classes_but_never_the_grid(graph, rng, capfd):
    path_cost = PathCost(graph, mode='replay')
    tracks = graph.peer.create_publisher(TrackedObjects, 'tracks', 10)
    assert graph.wait(path_cost.node.tracks.is_fed)
    assert graph.wait(lambda: tracks.get_subscription_count() == 1)
    broken = TrackedObject()
    broken.shape.dimensions.x = float('nan')
    header = messages.header_from(BEGIN_NS, 'odom')
    tracks.publish(TrackedObjects(header=header, objects=[broken]))
    path_cost.sensors.move()
    path_cost.sensors.play(1, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: graph.heard['path_cost'])
    assert path_cost.node.tracks.num_missing == 1
    assert 'tracks left out: dimensions: holds a value' in capfd.readouterr().err


def test_without_odometry_there_is_no_grid_and_no_points_and_the_report_says_why(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    path_cost.sensors.play(1, rng, kinds=('PointCloud',))
    assert graph.wait(
        lambda: level_of(graph, 'path_cost: pipeline')[1].get('dropped.no_transform') == 1
    )
    assert not graph.heard['path_cost']
    assert not graph.heard['obstacle_points']


def test_without_transforms_to_odom_the_odometry_topic_places_the_grid(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    publisher = graph.peer.create_publisher(Odometry, 'odom', 10)
    path_cost.sensors.wait_for(publisher)
    for number in range(-2, 3):
        stamp_ns = BEGIN_NS + number * 10_000_000
        odometry = Odometry(header=messages.header_from(stamp_ns, 'odom'))
        odometry.child_frame_id = 'base_link'
        odometry.pose.pose.position.x, odometry.pose.pose.position.y = 120.0, -40.0
        odometry.pose.pose.orientation.w = 1.0
        publisher.publish(odometry)
    assert graph.wait(lambda: is_placed(path_cost.node))
    path_cost.sensors.play(1, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: graph.heard['path_cost'])
    grid = messages.cost_grid_from_msg(graph.heard['path_cost'][0])
    middle = np.array(grid.origin_xy_m) + grid.resolution_m * np.array(grid.data.shape) / 2
    assert np.abs(middle - (120.0, -40.0)).max() <= grid.resolution_m


def is_placed(node):
    """Tell whether a node knows where the robot is at the first sweep."""
    try:
        return node.assembler.ego.odom_from_base(BEGIN_NS + 15_000_000) is not None
    except LookupError:
        return False


def test_a_deactivated_node_leaves_a_grid_that_stops_the_robot_and_no_points(graph, rng):
    path_cost = PathCost(graph, mode='replay')
    path_cost.sensors.move()
    path_cost.sensors.play(1, rng, kinds=('PointCloud',))
    assert graph.wait(lambda: graph.heard['ground_points'])
    assert graph.request('path_cost', 'deactivate')
    assert graph.wait(lambda: len(graph.heard['path_cost']) == 2)
    last = messages.cost_grid_from_msg(graph.heard['path_cost'][-1])
    column, row = ((np.array((6.0, 0.0)) - last.origin_xy_m) / last.resolution_m).astype(int)
    assert last.data[row, column] == 100
    assert len(graph.heard['obstacle_points']) == 1


def test_live_the_grid_comes_at_its_rate_and_points_for_every_sweep_that_went_into_one(graph, rng):
    path_cost = PathCost(graph, mode='live', path_cost__rate_hz=5.0, sync__lidar_timeout_ms=9e9)
    path_cost.sensors.move(7)
    for number in range(7):
        stamp_ns = path_cost.sensors.sweep(number, rng)
        assert graph.wait(lambda wanted=stamp_ns: path_cost.node.newest_ns == wanted)
    assert graph.wait(lambda: len(graph.heard['path_cost']) == 4)
    grids = stamps(graph.heard['path_cost'])
    assert grids == [BEGIN_NS + n * PERIOD_NS for n in (0, 2, 4, 6)]
    assert graph.wait(lambda: len(graph.heard['obstacle_points']) == 7)


def test_the_planner_is_told_once_per_configure_where_the_grid_is(graph):
    graph.listen('/robot/costmap_filter_info', CostmapFilterInfo, is_latched=True)
    graph.make(PathCostNode, namespace='robot')
    name = '/robot/path_cost'
    assert graph.request(name, 'configure')
    assert graph.wait(lambda: graph.heard['/robot/costmap_filter_info'])
    for label in ('activate', 'deactivate', 'activate'):
        assert graph.request(name, label)
    (info,) = graph.heard['/robot/costmap_filter_info']
    assert info.filter_mask_topic == '/robot/path_cost'
    assert (info.type, info.base, info.multiplier) == (0, 0.0, 1.0)


def test_an_unknown_parameter_ends_an_executable_with_exit_code_2_and_its_name():
    command = [sys.executable, '-m', 'mmperception.ros.path_cost_node', '--ros-args']
    done = subprocess.run(
        [*command, '-p', 'path_cost.rate_herz:=3.0'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert 'path_cost.rate_herz' in line
    assert 'did you mean path_cost.rate_hz?' in line
