# SPDX-License-Identifier: Apache-2.0
"""
People on foot and on bicycles, standing at the origin and facing +x.

A person is a skeleton of joints with tapered tubes around it; the gait is a cycle of hip, knee,
shoulder and elbow angles. A rider sits on the bicycle and reaches the pedals and the handlebar
by two-bone inverse kinematics (the law of cosines).
"""

from dataclasses import dataclass

from mmperception.geometry import transform_from_yaw
from mmperception.simulation.materials import (
    BIN,
    CLOTH_BOTTOM,
    CLOTH_TOP,
    code,
    HAIR,
    METAL,
    PAINT,
    SHOE,
    SKIN,
    TYRE,
)
from mmperception.simulation.mesh import merge
from mmperception.simulation.shapes import ball, box, ring, tube
import numpy as np

# Metres of ground that one gait cycle (two steps) of a person 1.75 m tall covers.
STRIDE_M = 1.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """
    How a person looks.

    `girth` 1 is average; `bag` is none, backpack or handbag; `arms` swing, phone (one hand at the
    ear), folded or pockets.
    """

    height_m: float
    girth: float
    bag: str
    skirt: bool = False
    coat: bool = False
    arms: str = 'swing'


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """
    How somebody rides: `lean_rad` of the trunk, and the `load` of the bicycle.

    `load` is none, panniers (beside the rear wheel), crate (on the rack) or child (behind).
    """

    length_m: float = 1.72
    lean_rad: float = 0.42
    load: str = 'none'


def random_ride(rng):
    """Draw a ride: from upright on a loaded city bicycle to low on a racing one."""
    return Ride(
        length_m=float(rng.uniform(1.62, 1.85)),
        lean_rad=float(rng.uniform(0.12, 0.85)),
        load=str(rng.choice(('none', 'panniers', 'crate', 'child'), p=(0.55, 0.22, 0.13, 0.1))),
    )


def random_build(rng, is_child=False):
    """Draw a person: adults 1.5 to 1.95 m, children 1.05 to 1.4 m."""
    height = rng.uniform(1.05, 1.4) if is_child else np.clip(rng.normal(1.72, 0.09), 1.5, 1.95)
    return Build(
        height_m=float(height),
        girth=float(rng.uniform(0.88, 1.25)),
        bag=str(rng.choice(('none', 'backpack', 'handbag'), p=(0.6, 0.2, 0.2))),
        skirt=bool(rng.random() < 0.12),
        coat=bool(rng.random() < 0.2),
        arms=str(rng.choice(('swing', 'phone', 'folded', 'pockets'), p=(0.7, 0.1, 0.08, 0.12))),
    )


def pedestrian(build, phase, swing=1.0):
    """
    Return the mesh of a walking person.

    Parameters
    ----------
    build : Build
        Limbs are shares of its height.
    phase : float
        0..1 through the gait cycle.
    swing : float
        0 stands still, 1 walks.

    Returns
    -------
    Mesh
        Feet on z = 0, hips above x = y = 0.

    """
    h = build.height_m
    hip_height = 0.50 * h
    parts = _trunk(build, (0.0, 0.0, hip_height), (0.02 * h, 0.0, 0.82 * h))
    parts += _coat(build, hip_height)
    for side in (1, -1):
        angle = 2 * np.pi * phase + (0 if side == 1 else np.pi)
        hip = np.array((0.0, side * 0.052 * h, hip_height))
        thigh = swing * 0.46 * np.sin(angle) + 0.03
        bend = swing * 0.75 * max(0.0, np.cos(angle)) + 0.06
        knee = hip + 0.245 * h * _lean(thigh)
        ankle = knee + 0.215 * h * _lean(thigh - bend)
        parts += _leg(build, (hip, knee, ankle), _lean(thigh - bend + np.pi / 2))
        shoulder = np.array((0.015 * h, side * 0.105 * h * build.girth**0.5, 0.80 * h))
        arm = -swing * 0.40 * np.sin(angle)
        parts += _arm(build, (shoulder, *_arm_joints(build, shoulder, side, arm, swing)))
    parts += _luggage(build)
    mesh = merge(parts)
    return mesh.transformed(transform_from_yaw((0, 0, -mesh.extent()[0][2]), 0.0))


def _arm_joints(build, shoulder, side, angle, swing):
    """Return elbow and hand of one arm, by what the person does with it."""
    h = build.height_m
    if build.arms == 'folded':
        elbow = shoulder + h * np.array((0.03, side * 0.03, -0.155))
        return elbow, elbow + h * np.array((0.105, side * -0.095, 0.045))
    if build.arms == 'pockets':
        elbow = shoulder + h * np.array((-0.045, side * 0.055, -0.145))
        return elbow, elbow + h * np.array((0.05, side * -0.05, -0.13))
    if build.arms == 'phone' and side == 1:
        elbow = shoulder + h * np.array((0.09, 0.035, -0.12))
        return elbow, shoulder + h * np.array((0.03, -0.04, 0.10))
    elbow = shoulder + 0.165 * h * _lean(angle) + (0, side * 0.03 * h, 0)
    return elbow, elbow + 0.15 * h * _lean(angle + 0.15 + 0.35 * swing)


def _coat(build, hip_height):
    """Return the skirts of a coat, from the hips to the knees."""
    if not build.coat:
        return []
    h, girth = build.height_m, build.girth
    cloth = np.array([(0.100, 0.080), (0.120, 0.105)]) * h * girth**0.7
    waist, hem = (0.0, 0.0, hip_height + 0.03 * h), (0.0, 0.0, hip_height - 0.19 * h)
    return [tube([waist, hem], cloth, code(CLOTH_TOP), sides=8)]


def _lean(angle):
    """Return the unit vector that hangs down at angle 0 and swings forward with it."""
    return np.array((np.sin(angle), 0.0, -np.cos(angle)))


def _trunk(build, hip, neck):
    """Return torso, neck and head between the hip's and the neck's middle."""
    h, girth = build.height_m, build.girth
    hip, neck = np.array(hip), np.array(neck)
    points = [hip + (neck - hip) * share for share in (-0.08, 0.05, 0.45, 0.88, 1.0)]
    widths = np.array((0.085, 0.098, 0.094, 0.115, 0.05)) * h * girth**0.7
    depths = np.array((0.065, 0.075, 0.070, 0.066, 0.04)) * h * girth
    up = (neck - hip) / np.linalg.norm(neck - hip)
    crown = neck + up * 0.115 * h + (0.01 * h, 0, 0)
    radii = np.stack((widths, depths), axis=1)
    parts = [
        tube(points, radii, code(CLOTH_TOP), sides=8),
        tube([neck - up * 0.02 * h, crown], 0.034 * h, code(SKIN), sides=6),
        ball(crown, (0.054 * h, 0.045 * h, 0.066 * h), code(SKIN)),
        ball(crown + (-0.016 * h, 0, 0.016 * h), (0.050 * h, 0.048 * h, 0.058 * h), code(HAIR)),
    ]
    if build.skirt:
        hem = hip - (0, 0, 0.22 * h)
        cloth = [(0.10 * h, 0.10 * h), (0.14 * h, 0.13 * h)]
        parts.append(tube([hip, hem], cloth, code(CLOTH_BOTTOM), sides=8))
    return parts


def _leg(build, joints, toe):
    """Return thigh, shin and shoe; `toe` is the direction in which the foot points."""
    hip, knee, ankle = joints
    h, girth = build.height_m, build.girth
    skin = code(SKIN) if build.skirt else code(CLOTH_BOTTOM)
    middle = (knee + ankle) / 2 - 0.1 * (knee - ankle)
    heel = ankle - 0.03 * h * toe - (0, 0, 0.012 * h)
    return [
        tube([hip, knee], np.array((0.056, 0.037)) * h * girth, code(CLOTH_BOTTOM)),
        tube([knee, middle, ankle], np.array((0.038, 0.034, 0.024)) * h * girth, skin),
        tube([heel, heel + 0.15 * h * toe], (0.026 * h, 0.02 * h), code(SHOE)),
    ]


def _arm(build, joints):
    """Return sleeve and hand."""
    h, girth = build.height_m, build.girth
    radii = np.array((0.034, 0.027, 0.018)) * h * girth**0.7
    return [
        tube(joints, radii, code(CLOTH_TOP), sides=5),
        ball(joints[2], 0.026 * h, code(SKIN), subdivisions=0),
    ]


def _luggage(build):
    h = build.height_m
    if build.bag == 'backpack':
        return [box((-0.115 * h, 0, 0.70 * h), (0.11 * h, 0.17 * h, 0.25 * h), code(CLOTH_TOP, 5))]
    if build.bag == 'handbag':
        return [box((0, -0.19 * h, 0.40 * h), (0.2 * h, 0.07 * h, 0.16 * h), code(CLOTH_TOP, 9))]
    return []


def bicycle(length_m=1.72, basket=False):
    """Return the mesh of a bicycle: rims in the x-z plane, tyres on z = 0."""
    radius = 0.335
    reach = length_m / 2 - radius - 0.012
    rear, front = np.array((-reach, 0, radius)), np.array((reach, 0, radius))
    crank, seat = np.array((-0.08, 0, 0.28)), np.array((-0.22, 0, 0.88))
    head, grip = np.array((reach - 0.17, 0, 0.78)), np.array((reach - 0.25, 0, 1.02))
    frame = [(rear, crank), (crank, seat), (crank, head), (seat * 0.75 + crank * 0.25, head),
             (rear, seat * 0.75 + crank * 0.25)]  # fmt: skip
    parts = [tube(ends, 0.021, code(PAINT), sides=4) for ends in frame]
    parts += [tube(ends, 0.019, code(METAL), sides=4) for ends in ((front, head), (head, grip))]
    parts.append(tube([grip + (0, -0.29, 0), grip + (0, 0.29, 0)], 0.018, code(METAL), sides=4))
    parts.append(box(seat + (0, 0, 0.04), (0.25, 0.14, 0.06), code(TYRE)))
    for hub in (rear, front):
        parts.append(ring(hub, radius - 0.024, 0.022, code(TYRE)))
        # Spokes and mudguard catch a beam now and then: a few bars across the wheel.
        for angle in (0.3, 1.35, 2.4):
            spoke = radius * 0.93 * np.array((np.cos(angle), 0, np.sin(angle)))
            parts.append(tube([hub - spoke, hub + spoke], 0.008, code(METAL), sides=3))
    parts.append(box(rear + (0.02, 0, radius + 0.07), (0.34, 0.12, 0.03), code(METAL)))
    if basket:
        parts.append(box(grip + (0.16, 0, -0.10), (0.26, 0.34, 0.22), code(BIN)))
    return merge(parts)


def cyclist(build, phase, ride=None):
    """
    Return the mesh of a person riding.

    `phase` 0..1 through a turn of the pedals; `ride` a `Ride`, by default an unloaded one; see
    `pedestrian` for the frame.
    """
    ride = ride or Ride()
    h = build.height_m
    hip = np.array((-0.20, 0, 0.97))
    up = np.array((np.sin(ride.lean_rad), 0, np.cos(ride.lean_rad)))
    neck = hip + 0.32 * h * up
    grip = np.array((ride.length_m / 2 - 0.59, 0, 1.03))
    parts = [bicycle(ride.length_m, basket=build.bag == 'handbag'), *_trunk(build, hip, neck)]
    for side in (1, -1):
        angle = 2 * np.pi * phase + (0 if side == 1 else np.pi)
        pedal = np.array((-0.08, side * 0.11, 0.28)) + 0.17 * _lean(angle)
        socket = hip + (0, side * 0.05 * h, 0)
        ankle = pedal + (-0.04, 0, 0.08)
        knee = _bend(socket, ankle, (0.245 * h, 0.225 * h), forward=1)
        parts += _leg(build, (socket, knee, ankle), np.array((1.0, 0, 0)))
        shoulder = neck + (-0.02, side * 0.10 * h, -0.03 * h)
        hand = grip + (0, side * 0.25, 0)
        elbow = _bend(shoulder, hand, (0.17 * h, 0.17 * h), forward=-1)
        parts += _arm(build, (shoulder, elbow, hand))
    if build.bag == 'backpack':
        back = np.array((-up[2], 0, up[0]))
        parts.append(
            box((hip + 2 * neck) / 3 + 0.14 * back, (0.15, 0.28, 0.36), code(CLOTH_TOP, 5))
        )
    return merge(parts + _load(ride))


def _load(ride):
    """Return what the bicycle carries over or beside its rear wheel."""
    hub = np.array((0.347 - ride.length_m / 2, 0, 0.335))
    if ride.load == 'panniers':
        return [
            box(hub + (-0.05, side * 0.16, 0.18), (0.33, 0.15, 0.34), code(CLOTH_TOP, 5))
            for side in (1, -1)
        ]
    if ride.load == 'crate':
        return [box(hub + (-0.02, 0, 0.56), (0.38, 0.30, 0.26), code(BIN))]
    if ride.load == 'child':
        small = Build(height_m=0.95, girth=1.1, bag='none')
        seat = hub + (0.0, 0, 0.53)
        feet = [seat + (0.14, side * 0.14, -0.28) for side in (1, -1)]
        return [
            box(seat + (-0.15, 0, 0.18), (0.05, 0.30, 0.42), code(BIN)),
            *_trunk(small, seat, seat + (0.0, 0, 0.33)),
            *(tube([seat, foot], 0.05, code(CLOTH_BOTTOM)) for foot in feet),
        ]
    return []


def _bend(start, end, lengths, forward):
    """Place the joint between two bones so that they reach from `start` to `end`."""
    first, second = lengths
    span = np.linalg.norm(end - start)
    along = (end - start) / span
    span = np.clip(span, abs(first - second) + 0.01, first + second - 1e-3)
    a = (first**2 - second**2 + span**2) / (2 * span)
    away = np.array((forward * -along[2], 0.0, forward * along[0]))
    away /= max(np.linalg.norm(away), 1e-6)
    return start + a * along + np.sqrt(max(first**2 - a**2, 0.0)) * away


def pushed_bicycle(build, phase):
    """Return the mesh of a person who walks beside a bicycle and holds it."""
    bike = bicycle().transformed(transform_from_yaw((0.25, -0.42, 0.0), 0.0))
    return merge([pedestrian(build, phase, swing=0.7), bike])
