"""Run an m3e command line on a Ray cluster of two workers on this machine; what ran where goes to a file.

Usage: run_on_ray.py REPORT.json ARGUMENTS…
"""

import json
import sys
from pathlib import Path


def main(report: str) -> None:
    import daft
    import ray
    from ray.cluster_utils import Cluster

    worker = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=worker)
    cluster.add_node(num_cpus=1, object_store_memory=150 << 20)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    # sets of a test are small: without this each would be one task of one worker
    daft.set_execution_config(scan_tasks_min_size_bytes=1, scan_tasks_max_size_bytes=200_000)
    try:
        from m3e.cli import main as run

        run()
    finally:
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        busy = {event["pid"] for event in ray.timeline() if event.get("cat", "").startswith("task::")}
        name = daft.context.get_context().get_or_create_runner().name
        Path(report).write_text(json.dumps({"runner": name, "nodes": len(nodes), "busy_nodes": sorted(map(str, busy))}))
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    answer = sys.argv.pop(1)
    main(answer)
