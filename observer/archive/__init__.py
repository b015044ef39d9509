"""On disk: names, segments, verification, retention."""
