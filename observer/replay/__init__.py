"""An archive as a source: a day of it, through the pipeline again."""
