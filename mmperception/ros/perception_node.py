# SPDX-License-Identifier: Apache-2.0
"""
The node `perception`: sensor topics in, detections, tracks and signs out.

Callbacks store raw messages into the synchroniser and hand complete sets to one worker thread,
which assembles the frame, runs the pipeline and publishes. Mode live works on the newest set,
mode replay on every set.
"""

import sys
from time import monotonic_ns

from mmperception.pipeline import load_perceiver
from mmperception.ros.assembly import FrameAssembler
from mmperception.ros.inputs import Inputs
from mmperception.ros.outputs import PerceptionOutputs
from mmperception.ros.process import run
from mmperception.ros.sign_map import SignMapFile
from mmperception.ros.working_node import elapsed_ms, WorkingNode

# Counted by the assembler: what was used although something was missing.
WORTH_KNOWING = ('uncompensated', 'not_deskewed', 'no_point_times')


class PerceptionNode(WorkingNode):
    """See the module."""

    def __init__(self, **options):
        super().__init__('perception', **options)
        self.perceiver = self.outputs = None

    def configure(self):
        """Load the network and announce what will be published."""
        super().configure()
        self.perceiver = load_perceiver(self.config)
        self.sign_map = SignMapFile(self)
        self.outputs = PerceptionOutputs(self)

    def cleanup(self):
        """Free the network and the publishers."""
        super().cleanup()
        if self.outputs is not None:
            self.outputs.destroy()
        self.perceiver = self.outputs = None

    def activate(self):
        """Subscribe and begin to work."""
        super().activate()
        self.assembler = FrameAssembler(self.config, self.transforms)
        self.inputs = Inputs(self, self.assembler, self.worker.put)
        self.outputs.publish_labels()
        self.worker.start()

    def deactivate(self):
        """Unsubscribe, end the worker, write what is to be kept."""
        was_active = self.worker is not None
        if was_active:
            self.inputs.destroy()
        super().deactivate()
        if was_active:
            self.sign_map.write()
            self.sign_map.forget()

    def work(self, matched):
        """Turn one matched set into messages."""
        started_ns = monotonic_ns()
        frame = self.assembler.assemble(matched)
        self.inputs.note(frame)
        timings_ms = {'wait': matched.waited_ns / 1e6, 'assemble': elapsed_ms(started_ns)}
        perception = self.perceiver.perceive(frame)
        timings_ms.update(perception.timings_ms)
        perceived_ns = monotonic_ns()
        self.outputs.publish(frame, perception)
        timings_ms['publish'] = elapsed_ms(perceived_ns)
        timings_ms['total'] = elapsed_ms(started_ns)
        self.outputs.draw(frame, perception)
        self.sign_map.see(frame, perception.signs, monotonic_ns())
        return timings_ms

    def idle(self, now_ns):
        """End waits that are over."""
        self.inputs.settle(now_ns)

    def clear_inputs(self):
        """Empty the synchroniser."""
        self.inputs.reset('time jump')

    def forget(self):
        """Empty the tracker and the motion history."""
        self.perceiver.reset()
        self.assembler.reset()
        self.sign_map.forget()

    def report(self):
        """Say what each input does, and the work."""
        values = {'device': self.perceiver.device, 'weights': self.perceiver.weights_name}
        values.update({name: self.assembler.counts[name] for name in WORTH_KNOWING})
        return [*self.inputs.report(), self.report_work('working', values)]


def main():
    """Run the node alone."""
    return run([PerceptionNode])


if __name__ == '__main__':
    sys.exit(main())
