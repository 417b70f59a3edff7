"""The Report: one model of what a compile or check found, and its renderers."""
