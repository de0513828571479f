"""The router service: which model answers a request, and its answer."""

import os

# numpy's library of linear algebra starts a thread for each core, which wait for one another
# by spinning: where a server has the cores to share, small sums take many times as long. It
# reads this when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
