# SPDX-License-Identifier: Apache-2.0
"""
Where the sensors of a bag sit, from its static transforms alone.

Evaluation projects truth by these: labels were drawn on the sweep as it stands, without the
motion between sweep and image that the frames of the pipeline take into account.
"""

from mmperception.recording import Mounting
from mmperception.ros.bag import read_messages
from mmperception.ros.messages import camera_model_from_msg
from mmperception.ros.transforms import take_message, TransformBuffer
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, PointCloud2
from tf2_msgs.msg import TFMessage


def mounting_from_bag(path, config):
    """
    Return the Mounting of LiDAR and cameras, or None when a static transform is lacking.

    Parameters
    ----------
    path : path
        Of the bag.
    config : Config
        Cameras and the robot frame are looked for by its names.

    """
    transforms = TransformBuffer()
    for _, _, data, _ in read_messages(path, {'/tf_static'}):
        take_message(transforms, deserialize_message(data, TFMessage), is_static=True)
    cloud = _first(path, '/lidar/points', PointCloud2)
    names = config.camera_names
    infos = {name: _first(path, f'/{name}/camera_info', CameraInfo) for name in names}
    infos = {name: info for name, info in infos.items() if info is not None}
    if cloud is None:
        return None
    try:
        base_from_lidar = transforms.lookup(config.base_frame, cloud.header.frame_id, 0)
        base_from_camera = {
            name: transforms.lookup(config.base_frame, info.header.frame_id, 0)
            for name, info in infos.items()
        }
    except LookupError:
        return None
    return Mounting(
        base_from_lidar=base_from_lidar,
        base_from_imu=None,
        base_from_gps=None,
        base_from_camera=base_from_camera,
        camera_models={
            name: camera_model_from_msg(info, config.camera(name).rectified)
            for name, info in infos.items()
        },
    )


def _first(path, topic, message_type):
    for _, _, data, _ in read_messages(path, {topic}):
        return deserialize_message(data, message_type)
    return None
