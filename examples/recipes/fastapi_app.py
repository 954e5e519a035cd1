"""FastAPI: ``uvicorn fastapi_app:app --workers 4``."""

from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from work import refresh

from cluster import config, interval, node_name
from jobsync import AsyncJob


@asynccontextmanager
async def lifespan(app):
    async with AsyncJob(node_name(), coordination_config=config) as job:
        job.every(interval)(refresh)
        app.state.job = job
        yield


app = FastAPI(lifespan=lifespan)


@app.get('/ready')
def ready(request: Request, response: Response):
    response.status_code = 200 if request.app.state.job.am_i_healthy() else 503
