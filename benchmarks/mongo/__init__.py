"""MongoDB clients beside each other: what a find costs, what a long result takes of memory, and of the loop's time."""
