"""Turn stored rows into estimates, verdicts, comparisons and a decision."""
