"""An independent reference of the secure aggregation protocol in docs/SECURE_AGGREGATION.md.

Written from that page, not from the C++ code. It plays every worker and the coordinator of an attempt from
given secrets and writes the vectors in tests/vectors/v1. It is neither fast nor constant time: not for use
with real secrets.
"""
