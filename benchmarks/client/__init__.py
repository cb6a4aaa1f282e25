"""HTTP clients beside each other: what a fetch costs."""
