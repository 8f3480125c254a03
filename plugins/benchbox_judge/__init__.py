"""A judge of emotions: does a denoised face still read as the clean one did?"""

from __future__ import annotations

from benchbox import Metric, hookimpl


@hookimpl
def benchbox_metrics() -> list[type[Metric]]:
    """Return the metrics that ask a judge."""
    from benchbox_judge.metrics import EmotionAccuracy, EmotionAgreement, EmotionKl
    from benchbox_judge.task import TaskAgreement

    return [EmotionAgreement, EmotionKl, EmotionAccuracy, TaskAgreement]
