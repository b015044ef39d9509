"""Is the installation right? The checks behind `observer doctor`, by what they look at. Every check looks, none mends."""
