# SPDX-License-Identifier: Apache-2.0
"""
The faults of a soak: of which kinds, in which order, and what each must leave in `/diagnostics`.

`EXPECTED` is the one table of what accounts for a fault: every piece of evidence of a sensor must
be seen. `GOES_ON` says which results must not stop meanwhile. Status and value names are those of
docs/interfaces.md. Judged by `soak.py`.
"""

from dataclasses import dataclass
import random

PERCEPTION, PATH_COST = 'perception: pipeline', 'path_cost: pipeline'
LIDAR, IMAGE = 'perception: lidar/points', 'perception: camera/image_raw'
FIX, SAMPLE = 'perception: gps/fix', 'perception: imu/data'
SWEEP = 'path_cost: lidar/points'
CLOCKS = ('perception: clock', 'path_cost: clock')
NODES = ('perception', 'path_cost')
# Results that are waited for after every fault.
RESULTS = ('detections', 'path_cost')
# Seconds: before the first fault, of a fault, and between two. The rhythm of an input, by which
# a gap is known, takes ten messages; a report of what was counted comes once a second.
FIRST_S, LENGTH_S, CALM_S = 6.0, (2.5, 4.5), (4.0, 5.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One fault of the schedule.

    Attributes
    ----------
    kind : str
        A key of `EXPECTED`.
    targets : tuple of str
        Sensors, nodes, or `clock`.
    begin_s, end_s : float
        Since the begin of the soak.
    seed : int
        For what is random in it.

    """

    kind: str
    targets: tuple[str, ...]
    begin_s: float
    end_s: float
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rises:
    """One of some counts of a status is larger after the fault than before it."""

    status: str
    keys: tuple[str, ...]

    def is_seen(self, record):
        """Tell whether the record of a fault shows it."""
        return self.difference(record) > 0

    def difference(self, record):
        """Return by how much the counts rose together."""
        before = record['before'].get(self.status, {})
        after = record['after'].get(self.status, {})
        return sum(after.get(key, 0) - before.get(key, 0) for key in self.keys)

    def __str__(self):
        return f'{self.status}: {" or ".join(self.keys)} rises'


@dataclass(frozen=True, slots=True, kw_only=True)
class Warns:
    """A status was at WARN or above in a report of the time of the fault."""

    status: str

    def is_seen(self, record):
        """Tell whether the record of a fault shows it."""
        return record['levels'].get(self.status, 0) >= 1

    def __str__(self):
        return f'{self.status}: a warning'


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """A node was in a state while the fault lasted, reported nothing, and is active again."""

    node: str
    state: str

    def is_seen(self, record):
        """Tell whether the record of a fault shows it."""
        states = record['states'].get(self.node, [])
        is_quiet = record['reports'].get(f'{self.node}: pipeline', 0) == 0
        return states == [self.state, 'active'] and is_quiet

    def __str__(self):
        return f'{self.node}: {self.state} and without a report, then active'


def _rises(status, *keys):
    return Rises(status=status, keys=keys)


def _warns(status):
    return Warns(status=status)


def _fault(status, kind):
    return (_rises(status, f'fault.{kind}.count'),)


def _each(kind):
    """Return the evidence of a fault that has the same name on every input."""
    return {
        'lidar': (*_fault(LIDAR, kind), *_fault(SWEEP, kind)),
        'camera': _fault(IMAGE, kind),
        'gps': _fault(FIX, kind),
        'imu': _fault(SAMPLE, kind),
    }


def _gone(status):
    return (_warns(status), *_fault(status, 'silent'), *_fault(status, 'back'))


_NO_PLACE = (
    Rises(status=PATH_COST, keys=('dropped.no_transform',)),
    Rises(status=PERCEPTION, keys=('not_deskewed', 'uncompensated')),
)
# Kind to target to evidence, all of which must be seen. A kind is drawn for one of its targets
# (`silent` and `burst` also for two at once).
EXPECTED = {
    'silent': {
        'lidar': (*_fault(LIDAR, 'gap'), *_gone(LIDAR), *_gone(SWEEP), _warns(PATH_COST)),
        'camera': (*_fault(IMAGE, 'gap'), *_gone(IMAGE)),
        'gps': (*_fault(FIX, 'gap'), *_gone(FIX)),
        'imu': (*_fault(SAMPLE, 'gap'), *_gone(SAMPLE)),
        'tf': (_NO_PLACE[1],),
    },
    'burst': {
        'lidar': (*_gone(LIDAR), *_gone(SWEEP)),
        'camera': _gone(IMAGE),
        'gps': _gone(FIX),
        'imu': _gone(SAMPLE),
        'tf': (_NO_PLACE[1],),
    },
    'late': {
        'lidar': (_warns(LIDAR),),
        'camera': (_warns(IMAGE), *_fault(IMAGE, 'late')),
        'gps': (_warns(FIX),),
        'imu': (_warns(SAMPLE),),
    },
    'duplicate': _each('duplicate'),
    'zero_stamp': _each('zero_stamp'),
    'future': _each('future'),
    'regressing': _each('regressing'),
    'lying': {
        'lidar': (
            _rises(PERCEPTION, 'dropped.bad_message'),
            _rises(PATH_COST, 'dropped.bad_message'),
        ),
        'camera': (_rises(IMAGE, 'dropped.masked'),),
        'gps': (_rises(FIX, 'dropped.bad_message'),),
        'imu': (_rises(SAMPLE, 'dropped.bad_message'),),
        'tf': _NO_PLACE,
    },
    'truncated': {
        'lidar': (
            _rises(PERCEPTION, 'dropped.bad_message'),
            _rises(PATH_COST, 'dropped.bad_message'),
        ),
        'camera': (_rises(IMAGE, 'dropped.masked', 'dropped.bad_message'),),
        'gps': (_rises(FIX, 'dropped.bad_message'),),
        'imu': (_rises(SAMPLE, 'dropped.bad_message'),),
        'tf': _NO_PLACE,
    },
    'empty': {'lidar': _fault(LIDAR, 'empty')},
    'not_finite': {'lidar': _fault(LIDAR, 'empty')},
    'wrong_size': {'camera': (_rises(IMAGE, 'dropped.masked'),)},
    'clock_back': {
        'clock': tuple(_rises(c, 'fault.jump.count', 'fault.loop.count') for c in CLOCKS)
    },
    'clock_forward': {'clock': tuple(_rises(c, 'fault.jump.count') for c in CLOCKS)},
    'clock_silent': {'clock': _fault(LIDAR, 'future')},
    'deactivate': {node: (Leaves(node=node, state='inactive'),) for node in NODES},
    'cleanup': {node: (Leaves(node=node, state='unconfigured'),) for node in NODES},
}
IN_PAIRS = ('silent', 'burst')
# What must be heard while a fault lasts, by kind and target, where it is not both results.
_UNPLACED = {'lidar': ('detections',), 'tf': ('detections',)}
GOES_ON = {
    'silent': _UNPLACED,
    'burst': _UNPLACED,
    'zero_stamp': {'lidar': ('detections',)},
    'future': {'lidar': ('detections',)},
    'lying': {'lidar': (), 'tf': ('detections',)},
    'truncated': {'lidar': (), 'tf': ('detections',)},
    'deactivate': {'perception': ('path_cost',), 'path_cost': ('detections',)},
    'cleanup': {'perception': ('path_cost',), 'path_cost': ('detections',)},
}


def evidence_of(fault):
    """Return what must be seen of a fault."""
    return [one for target in fault.targets for one in EXPECTED[fault.kind][target]]


def goes_on(fault):
    """Return the results that must not stop while a fault lasts."""
    if {'lidar', 'camera'} <= set(fault.targets):
        return set()  # nothing to see with
    chosen = set(RESULTS)
    for target in fault.targets:
        chosen &= set(GOES_ON.get(fault.kind, {}).get(target, RESULTS))
    return chosen


def make_schedule(seconds, seed, sensors):
    """
    Return the faults of a soak, one after the other.

    Every kind with every target comes once before any comes again, in random order.

    Parameters
    ----------
    seconds : float
        Length of the soak; the last fault ends early enough to be judged.
    seed : int
        The same seed gives the same faults.
    sensors : collection of str
        Those that the bag has; faults of others are left out.

    Returns
    -------
    list of Fault

    """
    rng = random.Random(seed)
    faults, waiting, at_s = [], [], FIRST_S
    while True:
        length_s, calm_s = rng.uniform(*LENGTH_S), rng.uniform(*CALM_S)
        if at_s + length_s + CALM_S[0] > seconds:
            return faults
        waiting = waiting or _all_once(rng, sensors)
        kind, targets = waiting.pop()
        end_s = at_s + length_s
        faults.append(
            Fault(kind=kind, targets=targets, begin_s=at_s, end_s=end_s, seed=rng.getrandbits(32))
        )
        at_s = end_s + calm_s


def _all_once(rng, sensors):
    """Return every kind with every target, and a pair of targets for some, shuffled."""
    drawn = []
    for kind, by_target in EXPECTED.items():
        targets = [t for t in by_target if t in sensors or t in NODES or t == 'clock']
        drawn += [(kind, (target,)) for target in targets]
        if kind in IN_PAIRS and len(targets) > 1:
            drawn += [(kind, tuple(rng.sample(targets, 2))) for _ in targets]
    rng.shuffle(drawn)
    return drawn
