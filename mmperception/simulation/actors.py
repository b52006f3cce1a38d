# SPDX-License-Identifier: Apache-2.0
"""
What moves in the street, or could: vehicles, people on foot and on bicycles.

An actor knows where it is at any time, how it looks then, and its truth box. Paths are straight
in road coordinates, so they follow the road's bends.
"""

from dataclasses import dataclass, field

from mmperception.geometry import yaw_of
from mmperception.simulation.assets import asset, NUM_PHASES, reach, standing
from mmperception.simulation.people import STRIDE_M
import numpy as np

# Truth kind of each kind of the stock.
KINDS = {
    'car': 'car',
    'van': 'van',
    'truck': 'truck',
    'walker': 'pedestrian',
    'child': 'pedestrian',
    'stander': 'pedestrian',
    'rider': 'cyclist',
    'pusher': 'cyclist',
}
# Who is longer in mid-stride; pedals stay between the wheels.
_WALKING = ('walker', 'child', 'pusher')
# Whose boxes are drawn with air around them, as much to each side as above.
_ON_FOOT = ('walker', 'child', 'stander')
_METRES_PER_CYCLE = {'walker': STRIDE_M, 'child': 0.9, 'rider': 5.0, 'pusher': STRIDE_M}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """
    One vehicle or person.

    Attributes
    ----------
    stock, number : str, int
        Which of the stock (`stander` too); `colours` its variants, `scale` its stretch.
    station_m, lateral_m : float
        Where it is at time 0.
    along_mps, across_mps : float
        How fast it moves along the road and to its left.
    turn_rad : float
        Its heading from the road's.
    lift_m, slack_m : float
        How far the truth box begins above the ground and ends above the top, by the habit of
        people who label sweeps; around people on foot it is also as much wider on each side.

    """

    stock: str
    number: int
    object_id: str
    station_m: float
    lateral_m: float
    along_mps: float = 0.0
    across_mps: float = 0.0
    turn_rad: float = 0.0
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    colours: dict = field(default_factory=dict)
    lift_m: float = 0.06
    slack_m: float = 0.0

    @property
    def kind(self):
        """Return its kind in the truth: a child is a pedestrian there."""
        return KINDS[self.stock]

    @property
    def speed_mps(self):
        """Metres a second over ground."""
        return float(np.hypot(self.along_mps, self.across_mps))

    def place(self, time_s):
        """Return station and lateral at a time."""
        return (
            self.station_m + self.along_mps * time_s,
            self.lateral_m + self.across_mps * time_s,
        )

    def pose(self, road, time_s):
        """Return (4, 4) world_from_actor."""
        return road.pose(*self.place(time_s), self.turn_rad)

    def velocity(self, road, time_s):
        """Return (3,) metres a second in the world."""
        if self.speed_mps == 0.0:
            return np.zeros(3)
        after, before = self.pose(road, time_s + 0.05), self.pose(road, time_s - 0.05)
        velocity = (after[:3, 3] - before[:3, 3]) / 0.1
        # Stepping up a kerb happens at once, not at metres a second.
        velocity[2] = np.clip(velocity[2], -0.5, 0.5)
        return velocity

    def mesh(self, time_s):
        """Return how it looks at a time, at the origin and facing +x."""
        if self.stock == 'stander':
            plain = standing(self.number)
        else:
            plain = asset(self.stock, self.number, self._phase(time_s))
        return plain.recoloured(self.colours).scaled(self.scale)

    def _phase(self, time_s):
        if self.stock not in _METRES_PER_CYCLE:
            return 0
        cycles = self.speed_mps * time_s / _METRES_PER_CYCLE[self.stock]
        return int((cycles + self.number * 0.37) * NUM_PHASES) % NUM_PHASES

    def box(self, world_from_actor, mesh):
        """
        Return centre (3,), size (3,) and yaw of the box around it, in the world.

        Labels keep one size for an object from its first to its last sweep (KITTI), so that of a
        walking person holds the whole stride, also while the legs are side by side.
        """
        low, high = mesh.extent()
        if self.stock in _WALKING:
            low, high = (corner * self.scale for corner in reach(self.stock, self.number))
        if self.stock in _ON_FOOT:
            low[:2], high[:2] = low[:2] - self.slack_m, high[:2] + self.slack_m
        low[2], high[2] = self.lift_m, high[2] + self.slack_m
        middle = world_from_actor @ np.append((low + high) / 2, 1.0)
        return middle[:3], high - low, yaw_of(world_from_actor)
