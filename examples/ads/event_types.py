"""Make the event type coupon known: a purchase with a coupon weighs as much as any other."""

from dataclasses import replace
from pathlib import Path

from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment

repo = Path("feature_repo")
settings = Enrichment.of_repo(repo)
replace(settings, event_weights={**settings.event_weights, "coupon": 1.0}).write(repo / ENRICHMENT_FILE)
