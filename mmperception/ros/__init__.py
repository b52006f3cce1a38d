# SPDX-License-Identifier: Apache-2.0
"""Everything that knows ROS: messages, transforms, bags, nodes. Nothing else imports it."""
