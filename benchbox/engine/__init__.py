"""One run: plan, quality pass, timing pass; prints nothing."""
