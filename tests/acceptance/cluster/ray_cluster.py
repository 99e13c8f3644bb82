"""A Ray cluster of several nodes on this machine: `python -m tests.acceptance.cluster.ray_cluster NODES`.

Prints its address, then reads commands from standard input: `kill N` ends node N at once; end of file ends all nodes.
"""

from __future__ import annotations

import sys
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {
    "num_cpus": 1,
    # Ray does not check this; nothing here computes on a GPU.
    "num_gpus": 1,
    "object_store_memory": 80 * 2**20,
    "include_log_monitor": False,
}


def main(count: int) -> None:
    """Run a head and `count - 1` other nodes of one CPU and one fictitious GPU each until standard input ends."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        nodes = [cluster.head_node]
        nodes += [cluster.add_node(wait=False, **NODE) for _ in range(count - 1)]
        cluster.wait_for_nodes()
        print(cluster.address, flush=True)
        for line in sys.stdin:
            _, number = line.split()
            _kill_node(nodes[int(number)])
            cluster.remove_node(nodes[int(number)], allow_graceful=False)
            print("killed", number, flush=True)
    finally:
        cluster.shutdown()


def _kill_node(node: Any) -> None:
    """Kill all processes of a node at the same moment, so that none can disconnect."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [*raylet.children(recursive=True), raylet]:
        process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
