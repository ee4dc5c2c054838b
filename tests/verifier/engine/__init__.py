"""The verifier's engine by itself: numbers, pruning, annotations, damaged programs."""
