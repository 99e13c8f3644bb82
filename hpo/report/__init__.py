"""Reports of a study and comparisons of several, as HTML, Markdown, CSV and JSON."""
