"""2D classes, class averages and selection."""
