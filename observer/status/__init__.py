"""How it is: health, metrics, status, the page."""
