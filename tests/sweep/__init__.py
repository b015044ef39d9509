"""Every system call is a bad moment: a writer that is killed, or fails, at each one of them in turn."""
