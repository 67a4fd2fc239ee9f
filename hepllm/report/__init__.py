"""Results as tables and pages: plain text, Markdown and self-contained HTML."""
