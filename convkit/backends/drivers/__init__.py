"""Programs that a toolchain's own Python runs: nothing of convkit is imported there."""
