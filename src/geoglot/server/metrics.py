"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("geoglot_requests_total", "Requests answered.", names, registry=self.registry)
        buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        self.seconds = Histogram(
            "geoglot_request_seconds", "Time to the last byte.", ("route",), buckets=buckets, registry=self.registry
        )
        self.busy = Gauge("geoglot_requests_in_progress", "Requests under way.", registry=self.registry)
        self.chips = Gauge("geoglot_chips", "Chips of an archive.", ("collection",), registry=self.registry)
        self.usable = Gauge(
            "geoglot_archive_usable", "1 when it can be asked.", ("collection",), registry=self.registry
        )
        self.jobs = Gauge("geoglot_jobs", "Jobs by state.", ("state",), registry=self.registry)
