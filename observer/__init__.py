"""Observer: records what a Korean market broker sends, keeps it whole, and says what is missing."""

__version__ = "0.3.0"
