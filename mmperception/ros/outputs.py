# SPDX-License-Identifier: Apache-2.0
"""
The publishers of the perception node, and how one frame's results leave through them.

Empty arrays are published too: silence means that the node is gone, not that the road is free.
Pictures are made only while someone subscribes.
"""

from autoware_perception_msgs.msg import TrackedObjects
from mmperception.datatypes import CLASSES
from mmperception.drawing import overlay_image
from mmperception.ros import messages, qos, sign_messages
from mmperception.sign_classes import SIGN_CLASSES, UNREAD_NAME
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

# Numbers of `label_info`: obstacles, then signs in the order of their table.
LABELS = (*CLASSES, *(sign.name for sign in SIGN_CLASSES), UNREAD_NAME)


class PerceptionOutputs:
    """The publishers of one node, made while it configures."""

    def __init__(self, node):
        self.node, self.config = node, node.config
        make = node.create_lifecycle_publisher
        self.detections = make(Detection3DArray, 'detections', qos.result())
        self.tracks = make(TrackedObjects, 'tracks', qos.result())
        self.signs = make(Detection3DArray, 'signs', qos.result())
        self.signs_2d = make(Detection2DArray, 'signs_2d', qos.result())
        self.label_info = make(LabelInfo, 'label_info', qos.latched())
        drawing = qos.drawing(self.config.mode)
        self.markers = make(MarkerArray, 'markers', drawing)
        self.overlays = {
            name: make(Image, f'overlay/{name}' if number else 'overlay', drawing)
            for number, name in enumerate(self.config.camera_names)
        }

    def destroy(self):
        """Give the publishers back."""
        made = (self.detections, self.tracks, self.signs, self.signs_2d, self.label_info)
        for publisher in (*made, self.markers, *self.overlays.values()):
            self.node.destroy_lifecycle_publisher(publisher)

    def publish_labels(self):
        """Say which number means which class."""
        self.label_info.publish(messages.msg_from_classes(LABELS, self.now()))

    def publish(self, frame, perception):
        """Publish everything that one frame gave."""
        self.detections.publish(messages.msg_from_detections(perception.detections))
        self.tracks.publish(messages.msg_from_tracks(perception.tracks))
        self._publish_signs(frame, perception)

    def _publish_signs(self, frame, perception):
        if perception.signs is None:
            header = messages.header_from(frame.stamp_ns, self.config.base_frame)
            self.signs.publish(Detection3DArray(header=header))
        else:
            self.signs.publish(sign_messages.msg_from_signs(perception.signs))
        for view in frame.cameras:
            found = perception.image_signs.get(view.name)
            self.signs_2d.publish(
                sign_messages.msg_from_image_signs(found, view.image.stamp_ns, view.model.frame_id)
            )

    def draw(self, frame, perception):
        """Publish pictures where someone looks."""
        if self.markers.get_subscription_count():
            markers = messages.msg_from_markers(perception.detections, perception.tracks)
            self.markers.publish(markers)
        for view in frame.cameras:
            publisher = self.overlays.get(view.name)
            if publisher is not None and publisher.get_subscription_count():
                pixels = overlay_image(
                    view, perception.detections, perception.image_signs.get(view.name)
                )
                publisher.publish(
                    messages.msg_from_image(pixels, view.image.stamp_ns, view.model.frame_id)
                )

    def now(self):
        """Return the node's time as a message."""
        return self.node.get_clock().now().to_msg()
