"""`make day`: a whole trading day, accelerated, with a written schedule of faults; judged, and told on one page."""
