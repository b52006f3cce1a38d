# SPDX-License-Identifier: Apache-2.0
"""
The sections of the configuration: every setting with its default, its unit and one sentence.

A leaf is `option(default, unit, sentence)`. `config.py` joins the sections into one tree, reads it
and writes it; defaults have their only home here, but for those of the root.
"""

from dataclasses import dataclass, field, fields


def option(default, unit, sentence, choices=None):
    """Declare one setting: its default, its unit ('' for none) and one sentence on it."""
    metadata = {'unit': unit, 'sentence': sentence, 'choices': choices}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def require(condition, message):
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_choices(section, prefix):
    """Raise ValueError if a setting with choices has another value."""
    for leaf in fields(section):
        choices = leaf.metadata.get('choices')
        value = getattr(section, leaf.name)
        require(
            not choices or value in choices,
            f'{prefix}{leaf.name}: {value!r} is none of {", ".join(map(str, choices or ()))}',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """Settings of one camera, `cameras.NAME.*`."""

    transport: str = option(
        'raw', '', 'Topic to read: image_raw or image_raw/compressed.', ('raw', 'compressed')
    )
    offset_ms: float = option(0.0, 'ms', 'Added to the image stamp before it is matched.')
    tolerance_ms: float = option(60.0, 'ms', 'Largest distance of an image to the sweep.')
    required: bool = option(False, '', 'Drop sweeps that have no image of this camera.')
    rectified: bool = option(False, '', 'The image is rectified: use P and no distortion.')
    max_pixels: int = option(
        40_000_000, 'pixels', 'Larger images are refused as broken, before they are unpacked.'
    )

    def __post_init__(self):
        check_choices(self, 'cameras.NAME.')
        require(self.max_pixels > 0, 'cameras.NAME.max_pixels: must be positive')
        require(self.tolerance_ms > 0, 'cameras.NAME.tolerance_ms: must be positive')


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarConfig:
    """What the LiDAR's stamps and point times mean."""

    stamp: str = option(
        'start', '', 'What the header stamp of a sweep means.', ('start', 'middle', 'end')
    )
    time_field: str = option('', '', 'Name of the per-point time field; empty: find it.')
    time_unit: str = option('auto', '', 'Unit of that field.', ('auto', 's', 'us', 'ns'))
    time_relative: bool = option(True, '', 'Point times count from the header stamp.')
    max_points: int = option(2_000_000, 'points', 'Larger clouds are refused as broken.')
    max_range_m: float = option(120.0, 'm', 'Points beyond are dropped.')
    min_range_m: float = option(0.5, 'm', 'Points nearer to the sensor are dropped.')
    intensity_scale: float = option(
        0.0, '', 'Intensity is divided by this; 0: 255 when any value exceeds 1, else 1.'
    )

    def __post_init__(self):
        check_choices(self, 'lidar.')
        require(self.max_points > 0, 'lidar.max_points: must be positive')
        require(
            0 <= self.min_range_m < self.max_range_m,
            'lidar.min_range_m: must be at least 0 and below lidar.max_range_m',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """How streams are matched to the pivot."""

    max_wait_ms: float = option(150.0, 'ms', 'Live mode: longest wait for a late input.')
    min_period_ms: float = option(
        0.0, 'ms', 'Shortest period of an input; 0: measured while running.'
    )
    gps_tolerance_ms: float = option(500.0, 'ms', 'Oldest GPS fix that still counts.')
    odom_tolerance_ms: float = option(
        100.0, 'ms', 'Largest gap over which the pose is extrapolated.'
    )
    lidar_timeout_ms: float = option(
        500.0, 'ms', 'Without a sweep for this long a camera becomes the pivot.'
    )
    silent_after_ms: float = option(
        1000.0, 'ms', 'An input is called silent after this long, a slow one after 2.5 periods.'
    )
    buffer: int = option(64, 'messages', 'Most messages kept for each input.')

    def __post_init__(self):
        require(self.max_wait_ms > 0, 'sync.max_wait_ms: must be positive')
        require(self.silent_after_ms > 0, 'sync.silent_after_ms: must be positive')
        require(self.buffer >= 2, 'sync.buffer: must be at least 2')


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionConfig:
    """From network output to published detections."""

    score_threshold: list[float] = option(
        [0.5, 0.6, 0.6], '', 'Lowest published score of vehicle, pedestrian, cyclist.'
    )
    max_detections: int = option(100, '', 'Most detections of one sweep.')

    def __post_init__(self):
        require(
            len(self.score_threshold) == 3 and all(0 < s < 1 for s in self.score_threshold),
            'detection.score_threshold: needs three values in (0, 1): '
            'vehicle, pedestrian and cyclist',
        )
        require(self.max_detections > 0, 'detection.max_detections: must be positive')


@dataclass(frozen=True, slots=True, kw_only=True)
class SignsConfig:
    """Finding, reading and following traffic signs."""

    enabled: bool = option(True, '', 'Look for traffic signs.')
    weights: str = option(
        'signs', '', 'signs, drawn (no photographs), or a folder of a detector and a classifier.'
    )
    every: int = option(2, 'images', 'Signs are looked for in every n-th image of a camera.')
    score_threshold: float = option(0.3, '', 'Lowest mean score of a published sign.')
    min_read: float = option(0.6, '', 'Lowest probability of a class; below a sign is unread.')
    max_read: int = option(16, '', 'Most signs that are read in one image.')
    confirm_hits: int = option(3, 'images', 'Images that show a sign before it is published.')
    max_misses: int = option(
        6, 'images', 'A sign that should be seen but is not in so many images is dropped.'
    )
    keep_s: float = option(8.0, 's', 'An unseen sign is kept for this time.')
    keep_behind_m: float = option(5.0, 'm', 'A sign further behind base_frame is dropped.')
    min_points: int = option(3, 'points', 'Fewest LiDAR points on a face that give its range.')
    map_file: str = option(
        '', '', 'GeoJSON of all signs seen, continued where it exists; needs GPS; empty: none.'
    )
    map_period_s: float = option(10.0, 's', 'The file is written so often, and at the end.')
    max_turned_deg: float = option(
        60.0, 'deg', "A face turned further from the robot's way is reported, not obeyed."
    )

    def __post_init__(self):
        require(self.every >= 1, 'signs.every: must be at least 1')
        require(self.max_read >= 1, 'signs.max_read: must be at least 1')
        require(self.map_period_s > 0, 'signs.map_period_s: must be positive')
        require(0 < self.max_turned_deg <= 180, 'signs.max_turned_deg: must be 0 to 180')
        require(
            0 < self.score_threshold < 1 and 0 < self.min_read < 1,
            'signs.score_threshold and signs.min_read: must be between 0 and 1',
        )
        require(
            self.confirm_hits >= 1 and self.max_misses >= 1,
            'signs.confirm_hits and signs.max_misses: must be at least 1',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingConfig:
    """How detections of successive sweeps become tracks."""

    confirm_hits: int = option(2, 'sweeps', 'Matches before a track is published.')
    max_coast_s: float = option(0.5, 's', 'A track unseen for longer is dropped.')
    gate_m: float = option(2.5, 'm', 'Largest distance of a detection to the prediction.')
    acceleration_mps2: float = option(3.0, 'm/s^2', 'Process noise of the motion model.')
    stationary_mps: float = option(0.5, 'm/s', 'Slower tracks are called stationary.')

    def __post_init__(self):
        require(self.confirm_hits >= 1, 'tracking.confirm_hits: must be at least 1')
        require(self.gate_m > 0, 'tracking.gate_m: must be positive')


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundConfig:
    """The ground model and what counts as an obstacle above it."""

    cell_m: float = option(1.0, 'm', 'Cell of the ground height map.')
    range_m: float = option(50.0, 'm', 'Ground is modelled this far to every side.')
    max_slope: float = option(0.25, '', 'Steepest ground, rise over run.')
    obstacle_height_m: float = option(
        0.25, 'm', 'Lowest height above ground of an obstacle point.'
    )
    clearance_m: float = option(
        2.3, 'm', 'Height of the robot and some air: points higher above ground hang over it.'
    )
    hole_depth_m: float = option(
        0.3, 'm', 'Ground this much lower than it should be is a hole or a step down; 0: none.'
    )
    hole_range_m: float = option(12.0, 'm', 'Holes are looked for up to here.')
    mist_range_m: float = option(
        15.0, 'm', 'Mist, rain and dust are told from obstacles up to here; 0: nowhere.'
    )
    self_length_m: float = option(5.0, 'm', 'Length of the robot; points within are its own.')
    self_width_m: float = option(2.2, 'm', 'Width of the robot; points within are its own.')
    self_center_x_m: float = option(1.3, 'm', "x of the robot's middle in base_frame.")
    self_center_y_m: float = option(0.0, 'm', "y of the robot's middle in base_frame.")

    def __post_init__(self):
        require(
            0 < self.obstacle_height_m < self.clearance_m,
            'ground.obstacle_height_m: must be positive and below ground.clearance_m',
        )
        require(
            self.hole_depth_m == 0 or self.hole_depth_m >= self.obstacle_height_m,
            'ground.hole_depth_m: must be 0 or at least ground.obstacle_height_m',
        )
        require(
            self.mist_range_m == 0 or 3 <= self.mist_range_m <= self.range_m,
            'ground.mist_range_m: must be 0 or from 3 up to ground.range_m',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCostConfig:
    """The cost grid for planners."""

    resolution_m: float = option(0.1, 'm', 'Cell of the grid; at or below the costmap.')
    cells: int = option(600, 'cells', 'Cells per side; more than the costmap has.')
    rate_hz: float = option(5.0, 'Hz', 'Live publishing rate; at or above the costmap.')
    decay_s: float = option(1.0, 's', 'An unseen obstacle that stood long fades in this time.')
    hidden_decay_s: float = option(
        10.0,
        's',
        'Below all rays an obstacle that was well seen before fades in this time.',
    )
    min_points: int = option(
        2, 'points', 'Fewest points, in a cell and its eight neighbours, of a new obstacle.'
    )
    free_below_m: float = option(
        0.5, 'm', 'A cell is free when a ray passed over it at most this high above ground.'
    )
    inflation_m: float = option(0.8, 'm', 'Graded cost reaches this far around an obstacle.')
    class_margin_m: list[float] = option(
        [0.5, 1.0, 0.8], 'm', 'Extra room around vehicle, pedestrian, cyclist.'
    )
    horizon_s: float = option(2.0, 's', 'Motion of tracks is painted this far ahead.')
    terrain_cost: int = option(
        60, '', 'Cost of the roughest and of the steepest ground that is no obstacle; 0: none.'
    )
    rough_from_m: float = option(
        0.1, 'm', 'Ground that changes by more within four cells costs, up to an obstacle height.'
    )
    slope_from: float = option(
        0.12, '', 'Ground steeper than this (rise over run) costs, up to ground.max_slope.'
    )
    no_entry_cost: int = option(90, '', 'Cost of the way beyond a no-entry sign; 0: none.')
    stop_cost: int = option(30, '', 'Cost of the way beyond a stop sign; 0: none.')
    yield_cost: int = option(10, '', 'Cost of the way beyond a yield sign; 0: none.')
    sign_reach_m: float = option(4.0, 'm', 'A sign closes the way this far to both sides.')
    sign_memory_s: float = option(10.0, 's', 'A sign counts for this long after it was seen.')
    on_lidar_loss: str = option(
        'lethal', '', 'What the grid says when the LiDAR is gone.', ('lethal', 'unknown')
    )
    stop_range_m: float = option(10.0, 'm', 'Lethal this far ahead on LiDAR loss.')
    tracks_wait_ms: float = option(50.0, 'ms', 'Live: longest wait for tracks of a sweep.')

    def __post_init__(self):
        check_choices(self, 'path_cost.')
        require(self.resolution_m > 0, 'path_cost.resolution_m: must be positive')
        require(10 <= self.cells <= 4000, 'path_cost.cells: must be 10 to 4000')
        require(self.rate_hz > 0, 'path_cost.rate_hz: must be positive')
        require(
            min(self.decay_s, self.hidden_decay_s, self.inflation_m) > 0,
            'path_cost.decay_s, hidden_decay_s and inflation_m: must be positive',
        )
        require(
            0 <= min(self._graded) <= max(self._graded) <= 98,
            'path_cost.terrain_cost, no_entry_cost, stop_cost and yield_cost: must be 0 to 98',
        )
        require(
            len(self.class_margin_m) == 3,
            'path_cost.class_margin_m: needs vehicle, pedestrian and cyclist',
        )

    @property
    def _graded(self):
        return self.terrain_cost, self.no_entry_cost, self.stop_cost, self.yield_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedLimitConfig:
    """Speed limits from signs."""

    robot_max_mps: float = option(
        0.0, 'm/s', "The robot's own maximum; 0: unset, no speed limit is ever published."
    )
    valid_m: float = option(1000.0, 'm', 'A limit ends after this way.')
    valid_s: float = option(300.0, 's', 'A limit ends after this time.')
    max_right_m: float = option(8.0, 'm', 'Signs passed further to the right are not obeyed.')
    max_left_m: float = option(6.0, 'm', 'Signs passed further to the left are not obeyed.')
    min_width_m: float = option(0.3, 'm', 'Narrower plates, as on vehicles, are not obeyed.')
    max_width_m: float = option(1.5, 'm', 'Wider plates are not obeyed.')

    def __post_init__(self):
        require(self.robot_max_mps >= 0, 'speed_limit.robot_max_mps: must not be negative')
        require(
            self.valid_m > 0 and self.valid_s > 0,
            'speed_limit.valid_m and speed_limit.valid_s: must be positive',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """Playing a bag into the nodes."""

    max_in_flight: int = option(2, 'sweeps', 'Sweeps sent but not yet answered.')
    answer_timeout_s: float = option(30.0, 's', 'Longest wait for the answer to a sweep.')
    startup_timeout_s: float = option(60.0, 's', 'Longest wait for the nodes to be active.')

    def __post_init__(self):
        require(self.max_in_flight >= 1, 'replay.max_in_flight: must be at least 1')
