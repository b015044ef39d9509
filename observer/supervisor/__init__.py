"""Who lives: child life cycle, the supervising loop, systemd."""
