"""A Ray cluster of two nodes on this machine: `python -m tests.acceptance.cluster.ray_cluster`.

Prints its address, then reads commands from standard input: `kill` ends the second node at once, end of file both.
"""

from __future__ import annotations

import sys
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {
    # Ray does not check this; nothing here computes on a GPU.
    "num_gpus": 1,
    "object_store_memory": 80 * 2**20,
    "include_log_monitor": False,
}


def main() -> None:
    """Run a head of two CPUs and a node of one, each with a fictitious GPU, until standard input ends."""
    head = {**NODE, "num_cpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.add_node(wait=False, num_cpus=1, **NODE)
        cluster.wait_for_nodes(timeout=120)
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            _kill_node(node)
            cluster.remove_node(node, allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()


def _kill_node(node: Any) -> None:
    """Kill all processes of a node at the same moment, so that none can disconnect."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [*raylet.children(recursive=True), raylet]:
        process.kill()


if __name__ == "__main__":
    main()
