"""Run an m3e command line on a Ray cluster of two workers on this machine; which of them did what goes to a file.

Usage: run_on_ray.py REPORT.json ARGUMENTS…
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path


def main(report: str) -> None:
    os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    from m3e.cli import main as run
    from m3e.data import staging

    staging._BYTES_A_FILE = 1 << 18  # the sets of a test are small: each would be one task of one worker
    worker = {"num_cpus": 1, "object_store_memory": 150 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**worker, "include_dashboard": False})
    cluster.add_node(**worker)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        run()
    finally:
        nodes = sum(node["Alive"] for node in ray.nodes())
        tasks = Counter(event["tid"] for event in ray.timeline() if "UDF" in event["cat"])
        Path(report).write_text(json.dumps({"nodes": nodes, "tasks_by_worker": tasks}))
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv.pop(1))
