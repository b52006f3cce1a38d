# SPDX-License-Identifier: Apache-2.0
"""Write a Recording as a bag, with a progress bar on a terminal; the last line is the bag."""

from dataclasses import replace

from mmperception.datatypes import PointCloud
from mmperception.ros.recording import write_recording
from tqdm import tqdm


def write(out, recording, force):
    """Write a Recording into the bag folder `out` and say where it is."""
    with tqdm(total=recording.num_sweeps, unit='sweep', disable=None) as bar:
        write_recording(out, replace(recording, events=_counted(recording.events, bar)), force)
    print(out.resolve())


def _counted(events, bar):
    for event in events:
        yield event
        bar.update(isinstance(event.value, PointCloud))
