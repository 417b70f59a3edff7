"""The algebra of views: Reshape, Transpose, Slice, Gather, Split and Concat as index maps."""
