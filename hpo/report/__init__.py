"""Documents of tables and charts, written as one self-contained HTML page and as Markdown with pictures."""
