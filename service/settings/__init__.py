"""Settings from the environment (`VERIDASK_…`), with their bounds, and the combinations that refuse to start.

Entry points read them once and pass them down; no other room reads the environment.
"""
