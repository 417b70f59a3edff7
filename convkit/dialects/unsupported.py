"""What a lowering of any dialect raises."""


class UnsupportedError(Exception):
    """This node cannot be expressed, and why (a sentence without a period)."""
