"""The broker's double: a KIS host that can misbehave on command."""
