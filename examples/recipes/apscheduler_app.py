"""APScheduler: ``python apscheduler_app.py`` on each machine; the scheduler runs on one of them."""

from apscheduler.schedulers.background import BackgroundScheduler
from work import refresh

from cluster import config, interval, node_name
from jobsync import Job

with Job(node_name(), coordination_config=config, handle_signals=True) as job:
    for turn in job.singleton('apscheduler'):
        scheduler = BackgroundScheduler()
        scheduler.add_job(refresh, 'interval', seconds=interval)
        scheduler.start()
        turn.wait()
        scheduler.shutdown()  # waits for what it is running
