"""One capability a file. A tool owns weights, pre- and post-processing and batching; it knows nothing of the graph."""

import os

# Every package of Namepin comes by here before it imports a library that would report its use to its makers; what the
# user has set stays.
for _name, _off in {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "False",
}.items():
    os.environ.setdefault(_name, _off)
