"""What runs tell: reading, statistics, verdicts, figures and reports."""
