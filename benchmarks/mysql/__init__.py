"""MySQL clients beside each other: what a query costs."""
