"""Cures for what overflows or vanishes in float16. They apply where a measurement has left its facts."""
