"""The plain values of a run: specifications, run.json, outcomes, tuned options; no behaviour beyond their own form."""
