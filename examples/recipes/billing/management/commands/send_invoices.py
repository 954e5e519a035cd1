"""A management command that several machines run together: each invoice is sent once."""

from django.core.management.base import BaseCommand
from work import open_invoices, send

from cluster import config, node_name
from jobsync import Job


class Command(BaseCommand):
    def handle(self, *args, **options):
        with Job(node_name(), coordination_config=config, handle_signals=True) as job:
            for invoice in job.batch(open_invoices()):
                send(invoice)
