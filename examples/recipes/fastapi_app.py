"""FastAPI: ``uvicorn fastapi_app:app --workers 4``."""

from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from work import refresh

from cluster import config, interval, node_name
from jobsync import AsyncJob

job = AsyncJob(node_name(), coordination_config=config)
job.every(interval)(refresh)


@asynccontextmanager
async def lifespan(_):
    async with job:
        yield


app = FastAPI(lifespan=lifespan)


@app.get('/ready')
def ready(response: Response):
    response.status_code = 200 if job.am_i_healthy() else 503
