"""Batches out of samples: decoded cache, geometry, the frozen teacher's features, label subsets."""
