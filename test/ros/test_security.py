# SPDX-License-Identifier: Apache-2.0
"""The SROS 2 policy allows what the nodes have, all of it and nothing else."""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

from graph import Graph, save_weights
from mmperception.ros.path_cost_node import PathCostNode
from mmperception.ros.perception_node import PerceptionNode
import pytest

# A name that no other test uses: the graph may still hold nodes of a process that was killed.
NAMESPACE = 'secured'
POLICY = Path(__file__).parents[2] / 'config' / 'sros2_policy.xml'
# Heard with use_sim_time, with another transport, or by rclpy itself.
ALSO_HEARD = {
    'perception': {'/clock', '/parameter_events', '/camera/image_raw/compressed'},
    'path_cost': {'/clock', '/parameter_events'},
}


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    """Both nodes, active, with their defaults but for the namespace."""
    graph = Graph()
    weights = str(save_weights(tmp_path_factory.mktemp('weights')))
    for node_type in (PerceptionNode, PathCostNode):
        assert graph.make(node_type, weights=weights, namespace=NAMESPACE).start()
    yield graph
    graph.close()


def allowed(node, kind, direction):
    """Return the full names that the policy allows a node."""
    root = ElementTree.parse(POLICY).getroot()
    (profile,) = root.iterfind(f".//profile[@node='{node}']")
    assert profile.get('ns') == '/'
    names = [e.text for group in profile.iterfind(f"{kind}[@{direction}='ALLOW']") for e in group]
    assert len(names) == len(set(names))
    return {f'/{node}{name[1:]}' if name[0] == '~' else f'/{name.lstrip("/")}' for name in names}


@pytest.mark.parametrize('node', ['perception', 'path_cost'])
def test_the_policy_is_what_the_node_has(graph, node):
    peer = graph.peer

    def has(look):
        names = (name for name, _ in look(node, f'/{NAMESPACE}'))
        return {name.removeprefix(f'/{NAMESPACE}') for name in names}

    assert graph.wait(lambda: '/tf_static' in has(peer.get_subscriber_names_and_types_by_node))
    published = has(peer.get_publisher_names_and_types_by_node)
    assert allowed(node, 'topics', 'publish') == published | {'/rosout', '/parameter_events'}
    heard = has(peer.get_subscriber_names_and_types_by_node)
    assert allowed(node, 'topics', 'subscribe') == heard | ALSO_HEARD[node]
    answered = has(peer.get_service_names_and_types_by_node)
    assert allowed(node, 'services', 'reply') >= answered
    # Not on Humble: the description of types.
    beyond = allowed(node, 'services', 'reply') - answered
    assert beyond <= {f'/{node}/get_type_description'}
