"""Documents of text, tables and charts, rendered as HTML or Markdown."""
